//! Framing and payloads of the MySQL and MariaDB wire.
