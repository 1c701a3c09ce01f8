from django.contrib.auth import views as auth
from django.urls import path

from signup import views

urlpatterns = [
    path("signup/", views.SignupView.as_view(), name="signup"),
    path("account/", views.AccountView.as_view(), name="account"),
    path("account/welcome/", views.welcome, name="welcome"),
    path("account/avatar/", views.avatar, name="avatar"),
    path("account/avatar/remove/", views.remove_avatar, name="avatar_remove"),
    path("account/password/", views.PasswordChangeView.as_view(), name="password_change"),
    path("pictures/<uuid:key>/<int:size>.webp", views.picture, name="picture"),
    path("reports/", views.ReportsView.as_view(), name="reports"),
    path("reports/<uuid:pk>/", views.report, name="report"),
    path("reports/<uuid:pk>/download/", views.download, name="report_download"),
    path("password/reset/", views.PasswordResetView.as_view(), name="password_reset"),
    path(
        "password/reset/sent/",
        auth.PasswordResetDoneView.as_view(template_name="signup/password_reset_sent.html"),
        name="password_reset_done",
    ),
    path(
        "password/reset/<uidb64>/<token>/",
        views.PasswordResetConfirmView.as_view(),
        name="password_reset_confirm",
    ),
]
