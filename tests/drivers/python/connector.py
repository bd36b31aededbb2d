"""Points mysql-connector-python's own tests at a server of ours: what its `unittests.py --use-external-server` does.

Loaded into pytest by `-p connector`.
"""

import os
import re

import mysql.connector
import tests
from tests import mysqld


def pytest_configure(config):
    server = mysqld.MySQLExternalServer("", "server1")
    server.client_config = {
        "host": "127.0.0.1",
        "port": int(os.environ["PORT"]),
        "user": os.environ["DBUSER"],
        "password": os.environ["PASSWORD"],
        "database": "myconnpy",
        "connection_timeout": 60,
        "unix_socket": None,
    }
    with mysql.connector.connect(**server.client_config) as connection:
        with connection.cursor() as cursor:
            cursor.execute("SELECT VERSION()")
            version = cursor.fetchone()[0]
    server.version = tuple(int(part) for part in re.match(r"(\d+)\.(\d+)\.(\d+)", version).groups())
    server.license = "GPL"
    tests.MYSQL_SERVERS.append(server)
    tests.MYSQL_EXTERNAL_SERVER = True
    tests.MYSQL_VERSION = server.version
    tests.MYSQL_LICENSE = server.license
    tests.MYSQL_VERSION_TXT = ".".join(map(str, server.version))
    tests.OPTIONS_INIT = True
