from __future__ import annotations

from django.urls import path
from tests.adoption.apps.django_site import views

urlpatterns = [
    path("people", views.people),
    path("people/<uuid:id>", views.person),
    path("people/<uuid:id>/later", views.person_later),
    path("loans/<uuid:id>/payments", views.payments),
    path("signups", views.signup),
    path("bug", views.bug),
]
