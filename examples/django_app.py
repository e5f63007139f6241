"""A Django project in one file: settings, a view, routes, the WSGI application.

    pip install django
    rgunicorn --chdir examples django_app:application
"""

import secrets

from django.conf import settings

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["*"],
        MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
        ROOT_URLCONF=__name__,
        SECRET_KEY=secrets.token_hex(32),
    )

from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import FileResponse, JsonResponse, StreamingHttpResponse  # noqa: E402
from django.urls import path  # noqa: E402


def index(request):
    return JsonResponse({"message": "Hello from Django", "path": request.path, "secure": request.is_secure()})


def echo(request):
    return JsonResponse({"method": request.method, "length": len(request.body), "form": request.POST.dict()})


def count(request):
    return StreamingHttpResponse((f"{number}\n" for number in range(5)), content_type="text/plain")


def source(request):
    return FileResponse(open(__file__, "rb"))


urlpatterns = [path("", index), path("echo", echo), path("count", count), path("source", source)]

application = get_wsgi_application()
