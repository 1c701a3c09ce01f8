"""The URLs of the project."""

from django.urls import include, path

urlpatterns = [path("tasks/", include("bgtasks.watch.urls"))]
