//! Capability flags: MySQL's 32, and MariaDB's extended ones as the upper half.

/// A set of capabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Capabilities(pub u64);

#[allow(missing_docs, reason = "the names are the manual's")]
impl Capabilities {
    pub const LONG_PASSWORD: u64 = 1;
    pub const FOUND_ROWS: u64 = 1 << 1;
    pub const LONG_FLAG: u64 = 1 << 2;
    pub const CONNECT_WITH_DB: u64 = 1 << 3;
    pub const COMPRESS: u64 = 1 << 5;
    pub const ODBC: u64 = 1 << 6;
    pub const LOCAL_FILES: u64 = 1 << 7;
    pub const IGNORE_SPACE: u64 = 1 << 8;
    pub const PROTOCOL_41: u64 = 1 << 9;
    pub const INTERACTIVE: u64 = 1 << 10;
    pub const SSL: u64 = 1 << 11;
    pub const TRANSACTIONS: u64 = 1 << 13;
    pub const RESERVED2: u64 = 1 << 15;
    pub const MULTI_STATEMENTS: u64 = 1 << 16;
    pub const MULTI_RESULTS: u64 = 1 << 17;
    pub const PS_MULTI_RESULTS: u64 = 1 << 18;
    pub const PLUGIN_AUTH: u64 = 1 << 19;
    pub const CONNECT_ATTRS: u64 = 1 << 20;
    pub const PLUGIN_AUTH_LENENC: u64 = 1 << 21;
    pub const SESSION_TRACK: u64 = 1 << 23;
    pub const DEPRECATE_EOF: u64 = 1 << 24;
    pub const OPTIONAL_RESULTSET_METADATA: u64 = 1 << 25;
    pub const ZSTD: u64 = 1 << 26;
    pub const QUERY_ATTRIBUTES: u64 = 1 << 27;
    pub const MARIADB_STMT_BULK_OPERATIONS: u64 = 1 << 34;
    pub const MARIADB_EXTENDED_METADATA: u64 = 1 << 35;
    pub const MARIADB_CACHE_METADATA: u64 = 1 << 36;

    /// What is advertised to clients (with [`Self::SSL`] where a certificate is configured). Nothing is advertised
    /// whose replies are not parsed, nor what would have no effect: INTERACTIVE is about the database's patience with idle
    /// connections, which are the gateway's.
    pub const PROXIED: u64 = Self::LONG_PASSWORD
        | Self::FOUND_ROWS
        | Self::LONG_FLAG
        | Self::CONNECT_WITH_DB
        | Self::LOCAL_FILES
        | Self::IGNORE_SPACE
        | Self::PROTOCOL_41
        | Self::TRANSACTIONS
        | Self::RESERVED2
        | Self::MULTI_STATEMENTS
        | Self::MULTI_RESULTS
        | Self::PS_MULTI_RESULTS
        | Self::PLUGIN_AUTH
        | Self::CONNECT_ATTRS
        | Self::PLUGIN_AUTH_LENENC
        | Self::SESSION_TRACK
        | Self::DEPRECATE_EOF;

    /// What is advertised beside, where the target has it: under these it tells more of a result's columns, or leaves
    /// out what was told before.
    pub const METADATA: u64 = Self::OPTIONAL_RESULTSET_METADATA
        | Self::MARIADB_EXTENDED_METADATA
        | Self::MARIADB_CACHE_METADATA;

    /// MariaDB's extended flags. They lie in the filler of greeting and login where LONG_PASSWORD is clear.
    pub const EXTENDED: u64 = 0xFFFF_FFFF << 32;

    /// The flags of a client that change the bytes of its results or the reading of its text: an upstream
    /// connection must have the same. Not MULTI_STATEMENTS: the database is sent one at a time.
    pub const SHAPING: u64 = Self::FOUND_ROWS
        | Self::IGNORE_SPACE
        | Self::MULTI_RESULTS
        | Self::PS_MULTI_RESULTS
        | Self::DEPRECATE_EOF
        | Self::QUERY_ATTRIBUTES
        | Self::METADATA;

    /// What clients are offered only where the target has it: a connection to it must have the same, or takes a command
    /// that others know nothing of.
    pub const OF_TARGET: u64 = Self::SHAPING | Self::MARIADB_STMT_BULK_OPERATIONS;

    /// What every upstream login asks for beside the shaping flags. LOCAL_FILES: which client may be asked for which
    /// file is the session's business.
    pub const UPSTREAM: u64 = Self::LONG_PASSWORD
        | Self::LONG_FLAG
        | Self::LOCAL_FILES
        | Self::IGNORE_SPACE
        | Self::PROTOCOL_41
        | Self::TRANSACTIONS
        | Self::SESSION_TRACK
        | Self::RESERVED2
        | Self::PLUGIN_AUTH
        | Self::PLUGIN_AUTH_LENENC;
}

impl Capabilities {
    /// Whether all of `bits` are set.
    pub fn has(self, bits: u64) -> bool {
        self.0 & bits == bits
    }

    /// Whether a result's first packet says if definitions follow it.
    pub fn may_lack_definitions(self) -> bool {
        self.0 & (Self::MARIADB_CACHE_METADATA | Self::OPTIONAL_RESULTSET_METADATA) != 0
    }
}
