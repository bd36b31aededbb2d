//! What a client says of the run that a statement is part of, under five well-known names. It is recorded and shown to
//! policies; since whoever sends a statement chose it freely, it proves nothing.

use std::hash::Hasher;

/// The names, in the order in which a [`Run`] has their values.
const NAMES: [&str; COUNT] = ["traceparent", "run_id", "purpose", "on_behalf_of", "pipeline"];
/// How many there are.
pub const COUNT: usize = 5;

/// Longest value that is kept, in bytes: the rest is cut off. (No identity has a name as long, so that a name that was cut is
/// nobody's.)
const MAX_VALUE: usize = 256;

/// Some of the names, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Names(u8);

impl Names {
    /// Every name.
    pub const ALL: Self = Self((1 << COUNT) - 1);
    /// The person for whom a service says that it speaks.
    pub const ON_BEHALF_OF: Self = Self(1 << 3);
    /// The trace that a statement belongs to, which is another one each time.
    pub const TRACEPARENT: Self = Self(1);

    /// This name, or none.
    pub fn of(name: &str) -> Self {
        NAMES.iter().position(|known| *known == name).map_or(Self(0), |at| Self(1 << at))
    }

    /// These and those.
    #[must_use]
    pub fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// These but for those.
    #[must_use]
    pub fn but(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    fn has(self, at: usize) -> bool {
        self.0 & (1 << at) != 0
    }
}

/// What is said: a value for some of the names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Run<'a>([Option<&'a str>; COUNT]);

impl<'a> Run<'a> {
    /// Takes over a value, where the name is one of the five and has none yet. An empty one says nothing.
    pub fn say(&mut self, name: &[u8], value: &'a str) {
        let at = NAMES.iter().position(|known| known.as_bytes() == name);
        let Some(slot) = at.and_then(|at| self.0.get_mut(at)) else { return };
        if slot.is_none() && !value.is_empty() {
            *slot = Some(&value[..value.floor_char_boundary(MAX_VALUE)]);
        }
    }

    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// This, and what `other` says under the names that have no value here.
    #[must_use]
    pub fn or(self, other: Run<'a>) -> Self {
        Self(std::array::from_fn(|at| self.0[at].or(other.0[at])))
    }

    /// What is said under these names.
    #[must_use]
    pub fn only(self, names: Names) -> Self {
        Self(std::array::from_fn(|at| self.0[at].filter(|_| names.has(at))))
    }

    /// The names that have a value.
    pub fn names(&self) -> Names {
        let said = self.0.iter().enumerate().filter(|(_, value)| value.is_some());
        Names(said.fold(0, |names, (at, _)| names | 1 << at))
    }

    /// For whom the statement is said to be.
    pub fn on_behalf_of(&self) -> Option<&'a str> {
        self.only(Names::ON_BEHALF_OF).pairs().next().map(|(_, person)| person)
    }

    /// Names and values.
    pub fn pairs(self) -> impl Iterator<Item = (&'static str, &'a str)> {
        NAMES.into_iter().zip(self.0).filter_map(|(name, value)| Some((name, value?)))
    }

    /// Feeds what is said, and nothing where nothing is.
    pub fn feed(self, hasher: &mut impl Hasher) {
        for (name, value) in self.pairs() {
            hasher.write(name.as_bytes());
            hasher.write_usize(value.len());
            hasher.write(value.as_bytes());
        }
    }

    /// The same, to be kept.
    pub fn keep(self) -> Option<Box<Kept>> {
        (!self.is_empty()).then(|| Box::new(Kept(self.0.map(|value| value.map(Box::from)))))
    }
}

impl<'n, 'a> FromIterator<(&'n str, &'a str)> for Run<'a> {
    /// What is said by names and values, of which the first of a name counts.
    fn from_iter<T: IntoIterator<Item = (&'n str, &'a str)>>(pairs: T) -> Self {
        let mut run = Self::default();
        pairs.into_iter().for_each(|(name, value)| run.say(name.as_bytes(), value));
        run
    }
}

/// What was said at some time: never nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept([Option<Box<str>>; COUNT]);

impl Kept {
    /// What is said.
    pub fn run(&self) -> Run<'_> {
        Run(self.0.each_ref().map(Option::as_deref))
    }
}

/// What is said by what may have been kept.
pub fn kept(kept: Option<&Kept>) -> Run<'_> {
    kept.map_or(Run::default(), Kept::run)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<'a>(pairs: &[(&str, &'a str)]) -> Run<'a> {
        pairs.iter().copied().collect()
    }

    #[test]
    fn five_names_have_a_value_each_and_no_others() {
        let long = "ü".repeat(200);
        let said = run(&[
            ("password", "hunter2"),
            ("run_id", ""),
            ("run_id", "r7"),
            ("RUN_ID", "other"),
            ("run_id", "again"),
            ("purpose", &long),
        ]);
        let found: Vec<_> = said.pairs().collect();
        assert_eq!(found, [("run_id", "r7"), ("purpose", &"ü".repeat(128)[..])]);
        assert_eq!(said.names(), Names::of("run_id").and(Names::of("purpose")));
        assert!(run(&[("password", "hunter2")]).is_empty());
        assert_eq!(said.keep().unwrap().run(), said);
        assert_eq!(Run::default().keep(), None);
    }

    #[test]
    fn the_constants_are_those_of_their_names() {
        assert_eq!(Names::of("on_behalf_of"), Names::ON_BEHALF_OF);
        assert_eq!(Names::of("traceparent"), Names::TRACEPARENT);
        assert_eq!(Names::of("password"), Names::default());
        let all = NAMES.map(Names::of).into_iter().fold(Names::default(), Names::and);
        assert_eq!(all, Names::ALL);
    }

    #[test]
    fn what_comes_first_counts_and_what_is_left_out_does_not() {
        let (one, two) = (run(&[("purpose", "a")]), run(&[("purpose", "b"), ("run_id", "7")]));
        assert_eq!(one.or(two), run(&[("purpose", "a"), ("run_id", "7")]));
        assert_eq!(two.or(one), two);
        assert_eq!(two.only(Names::of("run_id")), run(&[("run_id", "7")]));
        assert_eq!(two.only(Names::ALL.but(Names::of("run_id"))), run(&[("purpose", "b")]));
        assert_eq!(two.on_behalf_of(), None);
        assert_eq!(run(&[("on_behalf_of", "ann")]).on_behalf_of(), Some("ann"));
    }
}
