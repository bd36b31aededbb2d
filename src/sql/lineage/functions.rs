//! Functions that may be applied to a masked column, because their whole result becomes NULL and they can't fail in a
//! way that tells the value. Everything else over a masked column is refused.

/// Lower-case names. Total on strings, no errors and no warnings: functions whose result can grow (REPEAT, REPLACE,
/// LPAD, HEX, …) are left out, since one that outgrows `max_allowed_packet` is told by a warning.
const MASKED_WHOLE: [&str; 13] = [
    "coalesce", "concat", "ifnull", "lcase", "left", "lower", "ltrim", "reverse", "right", "rtrim",
    "substr", "ucase", "upper",
];

/// Whether a function may be applied to a masked column, its result then masked whole.
pub(super) fn is_masked_whole(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    MASKED_WHOLE.contains(&name.as_str()) || ["mid", "substring", "trim"].contains(&name.as_str())
}

/// Whether all arguments of such a function but the first are numbers.
pub(super) fn takes_numbers(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["left", "right", "substr", "substring", "mid"].contains(&name.as_str())
}
