"""Asks PostgreSQL, with psycopg2 as it comes, on connections that are kept."""

import os
from collections import deque

import psycopg2

from apps import answer

free = deque()


def app(environ, start_response):
    try:
        connection = free.pop()
    except IndexError:
        connection = psycopg2.connect(os.environ["POSTGRESQL"])
        connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("select pg_sleep(0.05)")
    free.append(connection)
    return answer(start_response, b"asked\n")
