//! Functions that may be applied to a masked column, because their whole result is redacted and they can't fail in a
//! way that tells the value. Everything else over a masked column is refused.

/// Lower-case names. Total on strings, no errors or warnings that quote their arguments.
const MASKED_WHOLE: [&str; 22] = [
    "coalesce",
    "concat",
    "concat_ws",
    "hex",
    "ifnull",
    "insert",
    "lcase",
    "left",
    "lower",
    "lpad",
    "ltrim",
    "quote",
    "repeat",
    "replace",
    "reverse",
    "right",
    "rpad",
    "rtrim",
    "substr",
    "to_base64",
    "ucase",
    "upper",
];

/// Whether a function's result over a masked column can be redacted whole.
pub(super) fn is_masked_whole(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    MASKED_WHOLE.contains(&name.as_str()) || ["mid", "substring", "trim"].contains(&name.as_str())
}
