"""A Flask application: JSON, a template-less page, an upload, a streamed answer.

    pip install flask
    rgunicorn --chdir examples flask_app:app
"""

import time

from flask import Flask, jsonify, request, stream_with_context

app = Flask(__name__)


@app.get("/")
def index():
    return jsonify(message="Hello from Flask", path=request.path, scheme=request.scheme)


@app.get("/greet/<name>")
def greet(name):
    return f"Hello, {name}!\n"


@app.post("/upload")
def upload():
    sizes = {field: len(file.read()) for field, file in request.files.items()}
    return jsonify(files=sizes, form=request.form)


@app.post("/echo")
def echo():
    return request.get_data()


@app.get("/count")
def count():
    def numbers():
        for number in range(int(request.args.get("to", 5))):
            yield f"{number}\n"
            time.sleep(float(request.args.get("pause", 0)))

    return stream_with_context(numbers()), {"Content-Type": "text/plain"}
