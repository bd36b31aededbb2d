#!/bin/sh
# MariaDB with the sample shop, on its Unix socket alone.
set -e
if [ ! -e /var/lib/mysql/is-filled ]; then
    mariadb-install-db --no-defaults --user=mysql --datadir=/var/lib/mysql --skip-test-db \
        --auth-root-authentication-method=normal >/dev/null
    # Filled where nobody sees it.
    mariadbd --no-defaults --datadir=/var/lib/mysql --socket=/tmp/first.sock --skip-networking &
    sql() { mariadb --no-defaults --user=root --socket=/tmp/first.sock "$@"; }
    until sql -e "SELECT 1" >/dev/null 2>&1; do sleep 0.2; done
    sql </shop.sql
    sql -e "CREATE USER rowgate@localhost IDENTIFIED BY 'only the gateway knows it';
            GRANT ALL ON *.* TO rowgate@localhost;
            ALTER USER root@localhost ACCOUNT LOCK;"
    kill $!
    wait $!
    touch /var/lib/mysql/is-filled
fi
exec mariadbd --no-defaults --datadir=/var/lib/mysql --socket=/run/mysqld/mysqld.sock --skip-networking
