//! Exclusive XML canonicalisation 1.0, without comments: an element as the bytes that are signed.
//! <https://www.w3.org/TR/xml-exc-c14n/>
//!
//! What is written here is what is read afterwards, and nothing else is: a mistake could refuse a good signature, not
//! have anything read that was not signed.

use roxmltree::{Attribute, Node, NodeId};

use super::SamlRefusal;
use super::xml::MAX_CANONICAL;

/// The algorithm's name.
pub(super) const EXCLUSIVE: &str = "http://www.w3.org/2001/10/xml-exc-c14n#";

/// A prefix (empty: none) and the namespace that it stands for.
type Declaration<'a> = (&'a str, &'a str);

/// Writes an element and what is in it. `without`: the signature that it envelopes. `inclusive`: prefixes that are declared
/// whether they are used or not, as values of attributes may rely on them.
pub(super) fn canonical(
    element: Node<'_, '_>,
    without: Option<NodeId>,
    inclusive: &[&str],
) -> Result<String, SamlRefusal> {
    let mut writer = Writer { without, inclusive, declared: Vec::new(), out: String::new() };
    writer.element(element)?;
    Ok(writer.out)
}

struct Writer<'a, 's> {
    without: Option<NodeId>,
    inclusive: &'s [&'s str],
    /// What the elements around the one that is being written have declared in the output, outermost first.
    declared: Vec<Declaration<'a>>,
    out: String,
}

impl<'a> Writer<'a, '_> {
    /// (It calls itself, to the depth that a document was let in with.)
    fn element(&mut self, node: Node<'a, '_>) -> Result<(), SamlRefusal> {
        let name = name(node).ok_or(SamlRefusal::Form)?;
        let around = self.declared.len();
        self.out.push('<');
        self.out.push_str(name);
        self.namespaces(node, name)?;
        self.attributes(node)?;
        self.out.push('>');
        let without = self.without;
        for child in node.children().filter(|child| Some(child.id()) != without) {
            if child.is_element() {
                self.element(child)?;
            } else if let Some(text) = child.text() {
                self.text(text);
            }
        }
        self.out.push_str("</");
        self.out.push_str(name);
        self.out.push('>');
        self.declared.truncate(around);
        Ok(())
    }

    /// The declarations of the prefixes that this element uses and no element around it has declared the same.
    fn namespaces(&mut self, node: Node<'a, '_>, name: &'a str) -> Result<(), SamlRefusal> {
        let mut used = vec![prefix(name)];
        for attribute in node.attributes() {
            let prefix = prefix(qualified(node, &attribute).ok_or(SamlRefusal::Form)?);
            if !prefix.is_empty() && prefix != "xml" {
                used.push(prefix);
            }
        }
        let in_scope = node.namespaces().map(|namespace| namespace.name().unwrap_or_default());
        used.extend(in_scope.filter(|prefix| self.inclusive.contains(prefix) && *prefix != "xml"));
        used.sort_unstable();
        used.dedup();
        for prefix in used {
            let key = (!prefix.is_empty()).then_some(prefix);
            let uri = node.lookup_namespace_uri(key).unwrap_or_default();
            let mut declared = self.declared.iter().rev();
            let before = declared.find(|(name, _)| *name == prefix).map_or("", |(_, uri)| uri);
            if before == uri {
                continue;
            }
            self.declared.push((prefix, uri));
            self.out.push_str(if prefix.is_empty() { " xmlns" } else { " xmlns:" });
            self.out.push_str(prefix);
            self.value(uri);
            if self.out.len() > MAX_CANONICAL {
                return Err(SamlRefusal::Size);
            }
        }
        Ok(())
    }

    fn attributes(&mut self, node: Node<'a, '_>) -> Result<(), SamlRefusal> {
        let mut all: Vec<Attribute<'a, '_>> = node.attributes().collect();
        all.sort_by_key(|attribute| (attribute.namespace().unwrap_or_default(), attribute.name()));
        for attribute in all {
            self.out.push(' ');
            self.out.push_str(qualified(node, &attribute).ok_or(SamlRefusal::Form)?);
            self.value(attribute.value());
        }
        Ok(())
    }

    fn value(&mut self, text: &str) {
        self.out.push_str("=\"");
        for letter in text.chars() {
            match letter {
                '&' => self.out.push_str("&amp;"),
                '<' => self.out.push_str("&lt;"),
                '"' => self.out.push_str("&quot;"),
                '\t' => self.out.push_str("&#x9;"),
                '\n' => self.out.push_str("&#xA;"),
                '\r' => self.out.push_str("&#xD;"),
                letter => self.out.push(letter),
            }
        }
        self.out.push('"');
    }

    fn text(&mut self, text: &str) {
        for letter in text.chars() {
            match letter {
                '&' => self.out.push_str("&amp;"),
                '<' => self.out.push_str("&lt;"),
                '>' => self.out.push_str("&gt;"),
                '\r' => self.out.push_str("&#xD;"),
                letter => self.out.push(letter),
            }
        }
    }
}

/// An element's name as it was written, with its prefix.
fn name<'a>(node: Node<'a, '_>) -> Option<&'a str> {
    let rest = node.document().input_text().get(node.range().start..)?.strip_prefix('<')?;
    let end = rest.find(|c: char| c.is_ascii_whitespace() || c == '/' || c == '>')?;
    rest.get(..end)
}

/// An attribute's name as it was written, with its prefix.
fn qualified<'a>(node: Node<'a, '_>, attribute: &Attribute<'a, '_>) -> Option<&'a str> {
    node.document().input_text().get(attribute.range_qname())
}

fn prefix(name: &str) -> &str {
    name.split_once(':').map_or("", |(prefix, _)| prefix)
}
