"""Django under ASGI: synchronous and asynchronous views, a streamed response, an upload."""

import asyncio

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.signals import request_finished, request_started
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="for tests alone", DEBUG=False, USE_TZ=True,
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    DATA_UPLOAD_MAX_MEMORY_SIZE=10_000_000,
)
django.setup()
counts = {"started": 0, "finished": 0}
request_started.connect(lambda **_: counts.update(started=counts["started"] + 1), weak=False)
request_finished.connect(lambda **_: counts.update(finished=counts["finished"] + 1), weak=False)
cancelled = []


def synchronous(request):
    return JsonResponse({"path": request.path, "secure": request.is_secure(), "q": request.GET.get("q")})


async def asynchronous(request):
    await asyncio.sleep(0.01)
    return JsonResponse({"body": len(request.body), "method": request.method, "host": request.get_host()})


def upload(request):
    file = request.FILES["file"]
    return JsonResponse({"name": file.name, "size": sum(map(len, file.chunks())), "note": request.POST["note"]})


async def stream(request):
    async def pieces():
        for number in range(5):
            yield f"{number},"
            await asyncio.sleep(0.01)

    return StreamingHttpResponse(pieces(), content_type="text/plain")


async def slow(request):
    """Django cancels a view whose client has left."""
    try:
        await asyncio.sleep(30)
    except asyncio.CancelledError:
        cancelled.append(True)
        raise


def fail(request):
    raise ValueError("Django fails")


urlpatterns = [
    path("sync", synchronous), path("async", asynchronous), path("upload", upload), path("stream", stream),
    path("slow", slow), path("fail", fail), path("counts", lambda request: JsonResponse({**counts, "cancelled": len(cancelled)})),
    path("", lambda request: HttpResponse("hello")),
]
application = get_asgi_application()
