//! The codes of the device flow that wait for a person. No I/O, no clock.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::passwords::PasswordRequest;
use crate::identity::Principal;
use crate::network::Network;
use crate::secret;

/// How long a code waits: to find the browser, sign in and read what is asked.
const LIVES_US: i64 = 600 * SECOND_US;
/// Between two looks of a device; one that comes sooner is told to wait five seconds longer (RFC 8628, 3.5).
const INTERVAL_S: u64 = 5;
const MAX_INTERVAL_S: u64 = 60;
/// A device's clock and ours need not agree to the millisecond.
const GRACE_US: i64 = 500_000;
/// All that wait: each wrong guess is compared with all of them.
const MAX_WAITING: usize = 1_000;
/// Codes that one address may ask for in a minute.
const MAX_ASKED: u32 = 10;
/// Codes of one address that wait at once, so that nobody fills the places of all.
const MAX_OF_ONE: usize = 20;
/// Wrong codes that one person may try in ten minutes: of 20^8 codes with a thousand waiting, that finds none.
const MAX_WRONG: u32 = 10;
/// Addresses and persons that are counted at once; when full, the count starts anew.
const MAX_COUNTED: usize = 10_000;
const SECOND_US: i64 = 1_000_000;
const MINUTE_US: i64 = 60 * SECOND_US;

/// Consonants that are told apart when read out and that spell no word (RFC 8628, 6.1).
const ALPHABET: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
const LENGTH: usize = 8;

type UserCode = [u8; LENGTH];

/// What a person is shown before they agree.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Asked {
    /// From where the device asked.
    pub address: Option<IpAddr>,
    /// Microseconds since the epoch.
    pub asked_us: i64,
    /// The targets that it wants to reach; none: all.
    pub targets: Vec<String>,
    /// The networks from which the password is to be good; none: all.
    pub networks: Vec<Network>,
    /// For how long, in seconds; none: as the configuration says.
    pub ttl_s: Option<u64>,
    /// What it is for, in the words of who asks: not to be believed.
    pub label: String,
}

/// A new code.
pub(super) struct NewCode {
    pub(super) device_code: String,
    pub(super) user_code: UserCode,
    pub(super) lives_s: u64,
    pub(super) interval_s: u64,
}

/// Why there is no new code.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CodesFull {
    /// This address asked for too many.
    Address,
    /// Too many wait.
    All,
    /// The system has no randomness to give.
    NoRandomness,
}

/// Why a user code is not looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WrongCode {
    /// There is none like it that waits.
    Unknown,
    /// This person tried too many.
    TooMany,
}

/// What a device is told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Poll {
    Waits,
    TooSoon,
    Denied,
    Expired,
    Unknown,
    Agreed(Box<Agreed>),
}

/// Who agreed to what.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Agreed {
    pub(super) principal: Principal,
    pub(super) request: PasswordRequest,
}

/// The codes that wait, and who asked for how many.
#[derive(Debug, Default)]
pub(super) struct Codes(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Waiting>,
    asked: Counts<Option<IpAddr>>,
    wrong: Counts<String>,
}

/// What the person said to it.
#[derive(Debug)]
enum Said {
    Nothing,
    No,
    Yes(Box<Principal>),
}

#[derive(Debug)]
struct Waiting {
    /// A hash: what is looked up by it is no secret any more.
    device: blake3::Hash,
    user_code: UserCode,
    request: PasswordRequest,
    address: Option<IpAddr>,
    asked_us: i64,
    looked_us: Option<i64>,
    interval_s: u64,
    said: Said,
}

impl Waiting {
    fn has_expired(&self, now_us: i64) -> bool {
        self.asked_us.saturating_add(LIVES_US) <= now_us
    }

    fn asked(&self) -> Asked {
        let PasswordRequest { targets, networks, ttl_s, label } = self.request.clone();
        Asked { address: self.address, asked_us: self.asked_us, targets, networks, ttl_s, label }
    }
}

impl Codes {
    /// A device asks.
    pub(super) fn ask(
        &self,
        request: PasswordRequest,
        address: Option<IpAddr>,
        now_us: i64,
    ) -> Result<NewCode, CodesFull> {
        let mut state = self.state();
        // (Those that have expired are kept a while longer, so that their devices learn why.)
        state.waiting.retain(|one| one.asked_us.saturating_add(2 * LIVES_US) > now_us);
        let network = address.map(of_network);
        let waits =
            |one: &&Waiting| one.address.map(of_network) == network && !one.has_expired(now_us);
        if state.asked.add(&network, MINUTE_US, now_us) > MAX_ASKED
            || state.waiting.iter().filter(waits).count() >= MAX_OF_ONE
        {
            return Err(CodesFull::Address);
        }
        if state.waiting.len() >= MAX_WAITING {
            state.waiting.retain(|one| !one.has_expired(now_us));
        }
        if state.waiting.len() >= MAX_WAITING {
            return Err(CodesFull::All);
        }
        let (device_code, mut user_code) =
            device_code().zip(user_code()).ok_or(CodesFull::NoRandomness)?;
        while state.waiting.iter().any(|one| one.user_code == user_code) {
            user_code = self::user_code().ok_or(CodesFull::NoRandomness)?;
        }
        let device = blake3::hash(device_code.as_bytes());
        let interval_s = INTERVAL_S;
        state.waiting.push(Waiting {
            device,
            user_code,
            request,
            address,
            asked_us: now_us,
            looked_us: None,
            interval_s,
            said: Said::Nothing,
        });
        let lives_s = u64::try_from(LIVES_US / SECOND_US).unwrap_or_default();
        Ok(NewCode { device_code, user_code, lives_s, interval_s })
    }

    /// What the code that this person typed asks for.
    pub(super) fn find(&self, text: &str, who: &str, now_us: i64) -> Result<Asked, WrongCode> {
        let mut state = self.state();
        let who = who.to_owned();
        if state.wrong.count(&who, 10 * MINUTE_US, now_us) >= MAX_WRONG {
            return Err(WrongCode::TooMany);
        }
        if let Some(found) = state.of(text, now_us) {
            return Ok(found.asked());
        }
        state.wrong.add(&who, 10 * MINUTE_US, now_us);
        Err(WrongCode::Unknown)
    }

    /// The person agrees, or (`None`) does not. Once.
    pub(super) fn settle(
        &self,
        text: &str,
        answer: Option<Principal>,
        now_us: i64,
    ) -> Result<(), WrongCode> {
        let mut state = self.state();
        let one = state.of(text, now_us).ok_or(WrongCode::Unknown)?;
        one.said = answer.map_or(Said::No, |principal| Said::Yes(Box::new(principal)));
        Ok(())
    }

    /// A device looks. Who is told yes or no is told once.
    pub(super) fn poll(&self, device_code: &str, now_us: i64) -> Poll {
        let mut state = self.state();
        let device = blake3::hash(device_code.as_bytes());
        let Some(at) = state.waiting.iter().position(|one| one.device == device) else {
            return Poll::Unknown;
        };
        let Some(one) = state.waiting.get_mut(at) else { return Poll::Unknown };
        if one.has_expired(now_us) {
            state.waiting.swap_remove(at);
            return Poll::Expired;
        }
        let pause_us = i64::try_from(one.interval_s).unwrap_or_default() * SECOND_US - GRACE_US;
        let is_early = one.looked_us.is_some_and(|last| now_us.saturating_sub(last) < pause_us);
        one.looked_us = Some(now_us);
        if is_early {
            one.interval_s = (one.interval_s + INTERVAL_S).min(MAX_INTERVAL_S);
            return Poll::TooSoon;
        }
        if matches!(one.said, Said::Nothing) {
            return Poll::Waits;
        }
        let one = state.waiting.swap_remove(at);
        match one.said {
            Said::Yes(principal) => {
                Poll::Agreed(Box::new(Agreed { principal: *principal, request: one.request }))
            }
            Said::No | Said::Nothing => Poll::Denied,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The one that waits under this user code. All are compared, each in the same time.
    fn of(&mut self, text: &str, now_us: i64) -> Option<&mut Waiting> {
        let typed = read(text)?;
        let mut found = None;
        for one in &mut self.waiting {
            let is_it = secret::equal(&one.user_code, &typed);
            if is_it && matches!(one.said, Said::Nothing) && !one.has_expired(now_us) {
                found = Some(one);
            }
        }
        found
    }
}

/// How often something was done in a window of time.
#[derive(Debug)]
struct Counts<K> {
    began_us: i64,
    of: HashMap<K, u32>,
}

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self { began_us: 0, of: HashMap::new() }
    }
}

impl<K: std::hash::Hash + Eq + Clone> Counts<K> {
    fn add(&mut self, key: &K, window_us: i64, now_us: i64) -> u32 {
        let count = self.count(key, window_us, now_us).saturating_add(1);
        if self.of.len() >= MAX_COUNTED {
            self.of.clear();
        }
        self.of.insert(key.clone(), count);
        count
    }

    fn count(&mut self, key: &K, window_us: i64, now_us: i64) -> u32 {
        if now_us.saturating_sub(self.began_us) >= window_us {
            (self.began_us, self.of) = (now_us, HashMap::new());
        }
        self.of.get(key).copied().unwrap_or(0)
    }
}

/// `BCDF-GHJK`, as a person reads it.
pub(super) fn written(code: UserCode) -> String {
    let (first, last) = code.split_at(LENGTH / 2);
    format!("{}-{}", String::from_utf8_lossy(first), String::from_utf8_lossy(last))
}

/// What a person typed: in any case, with or without the dash.
fn read(text: &str) -> Option<UserCode> {
    if text.len() > 4 * LENGTH {
        return None;
    }
    let letters = text.bytes().filter(|byte| !matches!(byte, b'-' | b' ' | b'_' | b'.'));
    let letters: Vec<u8> = letters.map(|byte| byte.to_ascii_uppercase()).collect();
    let is_code = letters.iter().all(|letter| ALPHABET.contains(letter));
    letters.try_into().ok().filter(|_| is_code)
}

fn device_code() -> Option<String> {
    let mut bytes = [0_u8; 32];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(URL_SAFE_NO_PAD.encode(bytes))
}

/// Each letter as likely as any other: bytes that 20 does not divide evenly are drawn anew.
fn user_code() -> Option<UserCode> {
    let mut code = [0_u8; LENGTH];
    for place in &mut code {
        *place = loop {
            let mut byte = [0_u8; 1];
            SystemRandom::new().fill(&mut byte).ok()?;
            if byte[0] < 240 {
                break *ALPHABET.get(usize::from(byte[0] % 20))?;
            }
        };
    }
    Some(code)
}

/// Whose limits an address shares: a customer of IPv6 has a whole /56.
fn of_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => std::net::Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 72)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::PrincipalKind;

    const START: i64 = 1_000 * SECOND_US;

    fn ann() -> Principal {
        Principal {
            subject: "ann".into(),
            kind: PrincipalKind::Human,
            groups: vec!["support".into()],
            attributes: std::collections::BTreeMap::new(),
        }
    }

    fn ask(codes: &Codes, last: u8, now_us: i64) -> Result<NewCode, CodesFull> {
        let request = PasswordRequest { targets: vec!["shop".into()], ..Default::default() };
        codes.ask(request, Some([10, 0, 0, last].into()), now_us)
    }

    #[test]
    fn a_code_is_confirmed_and_used_once() {
        let codes = Codes::default();
        let new = ask(&codes, 1, START).unwrap();
        let text = written(new.user_code);
        assert_eq!((text.len(), text.as_bytes()[4]), (9, b'-'));
        let at = |seconds: i64| START + seconds * SECOND_US;
        assert_eq!(codes.poll(&new.device_code, at(5)), Poll::Waits);
        let typed = text.to_lowercase().replace('-', " ");
        let asked = codes.find(&typed, "ann", at(6)).unwrap();
        assert_eq!(
            (asked.targets, asked.address),
            (vec!["shop".to_owned()], Some([10, 0, 0, 1].into()))
        );
        codes.settle(&text, Some(ann()), at(7)).unwrap();
        assert_eq!(codes.settle(&text, Some(ann()), at(7)), Err(WrongCode::Unknown), "once");
        assert_eq!(codes.find(&text, "bob", at(7)), Err(WrongCode::Unknown), "settled");
        assert_eq!(codes.poll("another", at(10)), Poll::Unknown);
        let Poll::Agreed(agreed) = codes.poll(&new.device_code, at(10)) else { panic!() };
        assert_eq!(agreed.principal, ann());
        assert_eq!(codes.poll(&new.device_code, at(20)), Poll::Unknown, "once");
    }

    #[test]
    fn no_is_told_once_and_time_ends_it() {
        let codes = Codes::default();
        let (no, late) = (ask(&codes, 1, START).unwrap(), ask(&codes, 1, START).unwrap());
        codes.settle(&written(no.user_code), None, START + 1).unwrap();
        assert_eq!(codes.poll(&no.device_code, START + 6 * SECOND_US), Poll::Denied);
        assert_eq!(codes.poll(&no.device_code, START + 12 * SECOND_US), Poll::Unknown);
        let text = written(late.user_code);
        assert_eq!(codes.find(&text, "ann", START + LIVES_US), Err(WrongCode::Unknown));
        assert_eq!(codes.settle(&text, Some(ann()), START + LIVES_US), Err(WrongCode::Unknown));
        assert_eq!(codes.poll(&late.device_code, START + LIVES_US), Poll::Expired);
    }

    #[test]
    fn who_looks_too_often_is_slowed_down() {
        let codes = Codes::default();
        let new = ask(&codes, 1, START).unwrap();
        let look = |seconds: i64| codes.poll(&new.device_code, START + seconds * SECOND_US);
        assert_eq!(look(0), Poll::Waits);
        assert_eq!(look(1), Poll::TooSoon);
        assert_eq!(look(6), Poll::TooSoon, "now ten seconds");
        codes.settle(&written(new.user_code), Some(ann()), START + 7).unwrap();
        assert_eq!(look(20), Poll::TooSoon, "now fifteen, also once it is settled");
        assert!(matches!(look(40), Poll::Agreed(_)));
    }

    #[test]
    fn guesses_and_requests_are_counted() {
        let codes = Codes::default();
        for _ in 0..MAX_ASKED {
            ask(&codes, 1, START).unwrap();
        }
        assert_eq!(ask(&codes, 1, START).err(), Some(CodesFull::Address));
        let new = ask(&codes, 2, START).unwrap();
        assert!(ask(&codes, 1, START + MINUTE_US).is_ok());
        for guess in ["BBBB-BBBB", "aeiou", "", "BCDF-GHJKL", "BCDFGHJÄ", &"B".repeat(900)] {
            assert_eq!(codes.find(guess, "eve", START), Err(WrongCode::Unknown), "{guess}");
        }
        for _ in 6..MAX_WRONG {
            let _ = codes.find("BBBB-BBBB", "eve", START);
        }
        let text = written(new.user_code);
        assert_eq!(codes.find(&text, "eve", START), Err(WrongCode::TooMany));
        assert!(codes.find(&text, "ann", START).is_ok(), "another person");
        assert!(codes.find(&text, "eve", START + LIVES_US - 1).is_err());
    }

    #[test]
    fn what_waits_is_bounded() {
        let codes = Codes::default();
        for n in 0..u16::try_from(MAX_WAITING).unwrap() {
            let [high, low] = n.to_be_bytes();
            let address = IpAddr::from([10, 1, high, low]);
            codes.ask(PasswordRequest::default(), Some(address), START).unwrap();
        }
        assert_eq!(ask(&codes, 9, START).err(), Some(CodesFull::All));
        // Those that expired make room.
        assert!(ask(&codes, 9, START + LIVES_US).is_ok());
    }

    #[test]
    fn one_address_does_not_fill_the_places_of_all() {
        let codes = Codes::default();
        let mut given = 0;
        for minute in 0..9 {
            let now_us = START + minute * MINUTE_US;
            given += (0..20).filter(|_| ask(&codes, 1, now_us).is_ok()).count();
        }
        assert_eq!(given, MAX_OF_ONE);
        assert!(ask(&codes, 2, START + 9 * MINUTE_US).is_ok(), "another address");
        assert!(ask(&codes, 1, START + LIVES_US).is_ok(), "its first have expired");
    }

    #[test]
    fn codes_are_of_the_alphabet_and_differ() {
        let all: std::collections::HashSet<_> = (0..100).map(|_| user_code().unwrap()).collect();
        assert_eq!(all.len(), 100);
        assert!(all.iter().flatten().all(|letter| ALPHABET.contains(letter)));
    }
}
