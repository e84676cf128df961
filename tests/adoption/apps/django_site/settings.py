"""A small site that lends: Django's own database beside Tallystick's."""

SECRET_KEY = "for tests only"
DEBUG = False
ALLOWED_HOSTS = ["testserver"]
USE_TZ = True
ROOT_URLCONF = "tests.adoption.apps.django_site.urls"
INSTALLED_APPS = ["tallystick.web.django"]
MIDDLEWARE = ["tallystick.web.django.TallystickMiddleware"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
TALLYSTICK = {
    "TENANT": "tests.adoption.apps.django_site.access.tenant_of",
    "ACTOR": "tests.adoption.apps.django_site.access.actor_of",
    "PERMISSIONS": "tests.adoption.apps.django_site.access.may",
}
