//! Reading XML from strangers: bounded, without DTDs, comments or processing instructions; and looking at the tree.

use roxmltree::{Document, Node, ParsingOptions};

use super::SamlRefusal;

/// Longest document: responses with hundreds of groups are about 100 kB.
pub(super) const MAX_XML: usize = 256 << 10;
/// Most nodes of one: a value is three (element, text, and the white space that some put between).
const MAX_NODES: u32 = 8_192;
/// Deepest nesting: what SAML needs is eight, and values may be elements of others' making.
const MAX_DEPTH: usize = 32;
/// Most `=`, so most attributes: each is compared with all others of its element.
const MAX_ATTRIBUTES: usize = 4_096;
/// Most declarations of namespaces: every element below one carries it along.
const MAX_NAMESPACES: usize = 256;

/// Namespaces.
pub(super) const ASSERTION: &str = "urn:oasis:names:tc:SAML:2.0:assertion";
pub(super) const PROTOCOL: &str = "urn:oasis:names:tc:SAML:2.0:protocol";
pub(super) const METADATA: &str = "urn:oasis:names:tc:SAML:2.0:metadata";
pub(super) const SIGNATURE: &str = "http://www.w3.org/2000/09/xmldsig#";

/// Longest canonical form: each element declares again what it uses, so that it may be longer than what it is made of.
pub(super) const MAX_CANONICAL: usize = 4 * MAX_XML;

/// Reads a stranger's document.
pub(super) fn parse(text: &str) -> Result<Document<'_>, SamlRefusal> {
    let count = |word: &str| text.matches(word).count();
    if text.len() > MAX_XML || count("=") > MAX_ATTRIBUTES || count("xmlns") > MAX_NAMESPACES {
        return Err(SamlRefusal::Size);
    }
    parse_canonical(text)
}

/// Reads what was signed, in canonical form: its length is known to be bounded.
pub(super) fn parse_canonical(text: &str) -> Result<Document<'_>, SamlRefusal> {
    // Whatever it would declare: an entity, an attribute's default, an ID of another name. (roxmltree is told to refuse them, too.)
    if text.contains("<!DOCTYPE") || text.contains("<!ENTITY") {
        return Err(SamlRefusal::Dtd);
    }
    let options =
        ParsingOptions { allow_dtd: false, nodes_limit: MAX_NODES, ..ParsingOptions::default() };
    let document = Document::parse_with_options(text, options).map_err(|error| match error {
        roxmltree::Error::DtdDetected => SamlRefusal::Dtd,
        roxmltree::Error::NodesLimitReached => SamlRefusal::Size,
        _ => SamlRefusal::Xml,
    })?;
    for node in document.descendants() {
        if node.ancestors().nth(MAX_DEPTH).is_some() {
            return Err(SamlRefusal::Size);
        }
        // A signature does not cover comments: they could cut a name in two without breaking it.
        if node.is_comment() || node.is_pi() {
            return Err(SamlRefusal::Comment);
        }
    }
    Ok(document)
}

/// Whether it is an element of this name.
pub(super) fn is(node: Node<'_, '_>, namespace: &str, name: &str) -> bool {
    node.is_element()
        && node.tag_name().name() == name
        && node.tag_name().namespace() == Some(namespace)
}

/// The children that are elements of this name.
pub(super) fn children<'a, 'i: 'a>(
    node: Node<'a, 'i>,
    namespace: &'static str,
    name: &'static str,
) -> impl Iterator<Item = Node<'a, 'i>> {
    node.children().filter(move |child| is(*child, namespace, name))
}

/// The only child of this name: `Err` where there are two and more.
pub(super) fn only<'a, 'i: 'a>(
    node: Node<'a, 'i>,
    namespace: &'static str,
    name: &'static str,
) -> Result<Option<Node<'a, 'i>>, SamlRefusal> {
    let mut all = children(node, namespace, name);
    let first = all.next();
    if all.next().is_some() { Err(SamlRefusal::Form) } else { Ok(first) }
}

/// The text of an element that has nothing but text; empty for none.
pub(super) fn text<'a>(node: Node<'a, '_>) -> Result<&'a str, SamlRefusal> {
    let mut inside = node.children();
    match (inside.next(), inside.next()) {
        (None, _) => Ok(""),
        (Some(only), None) if only.is_text() => Ok(only.text().unwrap_or_default()),
        _ => Err(SamlRefusal::Form),
    }
}

/// Escapes text for an element or a quoted attribute.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            letter => out.push(letter),
        }
    }
    out
}
