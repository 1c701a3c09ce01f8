from django.urls import path

from lab import views
from lab.catalogue import PATTERNS
from lab.running import measured

urlpatterns = [
    path("", views.index, name="lab"),
    path("light/", views.light, name="lab_light"),
    path("live/<slug:visit>/", views.live, name="lab_live"),
    path("runs/<int:pk>/", views.run, name="lab_figures"),
    path("report/<str:token>/", views.report, name="lab_report"),
    path("visit/<str:token>/", views.visit, name="lab_visit"),
    *(
        path(
            f"run/{pattern.key}/{way.key}/",
            measured(pattern.key, way.key, way.view),
            name=f"lab-{pattern.key}-{way.key}",
        )
        for pattern in PATTERNS
        for way in pattern.ways
    ),
]
