"""The app as Django lists it."""

from __future__ import annotations

from django.apps import AppConfig


class TallystickConfig(AppConfig):
    """Brings ``manage.py tallystick``; it has no models, so Django's migrations know nothing of our tables."""

    name = "tallystick.web.django"
    label = "tallystick"
    verbose_name = "Tallystick"
