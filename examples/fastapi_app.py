"""A FastAPI application: rgunicorn -k asgi fastapi_app:app"""

from fastapi import FastAPI, Request

app = FastAPI()


@app.get("/{path:path}")
async def hello(request: Request, path: str):
    return {"message": "Hello from FastAPI", "path": "/" + path}
