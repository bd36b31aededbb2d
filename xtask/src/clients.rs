//! Stock clients and drivers, as people and agents use them: each logs in inside TLS with this password, checks the
//! gateway's certificate, runs one statement on the shop, and prints its rows. Passwords come by the environment.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};

use crate::{mysql, setup};

/// Who logs in, and where.
#[derive(Clone, Copy, Debug)]
pub struct Login<'a> {
    /// The gateway's port on 127.0.0.1.
    pub port: u16,
    /// The file of the certificate that it must show.
    pub ca: &'a Path,
    pub user: &'a str,
    pub password: &'a str,
}

const PYMYSQL: &str = "
import os, pymysql
e = os.environ
c = pymysql.connect(
    host='127.0.0.1', port=int(e['PORT']), user=e['DBUSER'], password=e['PASSWORD'], database='shop',
    ssl_ca=e['CA'], ssl_verify_identity=True)
with c.cursor() as k:
    k.execute(e['SQL'])
    for row in k.fetchall():
        print(*row, sep='\\t')
";

const MYSQL2: &str = "
import { readFileSync } from 'node:fs'
import mysql from 'mysql2/promise'
const e = process.env
const c = await mysql.createConnection({
  host: '127.0.0.1', port: Number(e.PORT), user: e.DBUSER, password: e.PASSWORD, database: 'shop',
  ssl: { ca: readFileSync(e.CA) },
})
const [rows] = await c.execute({ sql: e.SQL, rowsAsArray: true })
for (const row of rows) console.log(row.join('\\t'))
await c.end()
";

impl Login<'_> {
    /// PyMySQL; its rows come as text.
    pub fn pymysql(&self, sql: &str) -> Result<Command> {
        let mut python = Command::new("python3");
        python.args(["-c", PYMYSQL]).env("PYTHONPATH", setup::pymysql()?);
        Ok(self.told(python, sql))
    }

    /// mysql2, of Node.js; the statement is prepared, so that its rows come in the binary protocol. (It can't check an
    /// address against a certificate, but there is one certificate only that it trusts.)
    pub fn mysql2(&self, sql: &str) -> Result<Command> {
        let mut node = Command::new("node");
        // Packages are looked for beside the folder that it runs in.
        node.args(["--input-type=module", "-e", MYSQL2]).current_dir(setup::js_drivers()?);
        Ok(self.told(node, sql))
    }

    /// The `mariadb` command.
    pub fn mariadb(&self, sql: &str) -> Command {
        let mut client = Command::new("mariadb");
        client.args(["--no-defaults", "--ssl-verify-server-cert"]);
        client.env("MYSQL_PWD", self.password);
        self.asked(client, sql)
    }

    /// MySQL's own `mysql` command, with the password or, where one is named, with a token in a file.
    pub fn mysql(&self, token_file: Option<&Path>, sql: &str) -> Result<Command> {
        let tree = mysql::Tree::here()?;
        let mut client = tree.program("mysql");
        client.args(["--no-defaults", "--ssl-mode=VERIFY_IDENTITY"]);
        if let Some(file) = token_file {
            ensure!(self.password.is_empty(), "a token in a file is no password");
            client.arg(format!("--plugin-dir={}", tree.plugins().display()));
            let option = "--authentication-openid-connect-client-id-token-file";
            client.arg(format!("{option}={}", file.display()));
        } else {
            client.env("MYSQL_PWD", self.password);
        }
        Ok(self.asked(client, sql))
    }

    /// What both commands are told.
    fn asked(&self, mut client: Command, sql: &str) -> Command {
        client.args(["--protocol=tcp", "--host=127.0.0.1"]).arg(format!("--port={}", self.port));
        client.arg(format!("--user={}", self.user));
        client.arg(format!("--ssl-ca={}", self.ca.display()));
        client.args(["--batch", "--skip-column-names", "--database=shop", "-e", sql]);
        client.stdin(Stdio::null());
        client
    }

    /// What both programs are told.
    fn told(&self, mut program: Command, sql: &str) -> Command {
        program.env("PORT", self.port.to_string()).env("CA", self.ca).env("SQL", sql);
        program.env("DBUSER", self.user).env("PASSWORD", self.password).stdin(Stdio::null());
        program
    }
}
