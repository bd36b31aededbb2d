//! Text of others' making, for people to read: what agents wrote is shown to approvers and auditors, so nothing of it may
//! steer a terminal, or be read otherwise than it stands.

/// The text with everything that a terminal would obey, or that is not seen and changes what is read, written out as an escape.
/// Line breaks and tabs stay.
pub fn visible(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '\n' | '\t') || !(c.is_control() || is_invisible(c)) {
            safe.push(c);
        } else {
            safe.extend(c.escape_unicode());
        }
    }
    safe
}

/// Characters that are not seen but change what is: directions, joiners, tags, line separators.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_written_out() {
        assert_eq!(visible("DROP\x1b[2K TABLE\r t\u{7}"), "DROP\\u{1b}[2K TABLE\\u{d} t\\u{7}");
        assert_eq!(visible("a\u{202e}b\u{200b}c\u{9b}d"), "a\\u{202e}b\\u{200b}c\\u{9b}d");
        assert_eq!(visible("naïve 表\n\tx"), "naïve 表\n\tx");
    }
}
