//! The host against real components: the shipped ones, and ones that misbehave.

use super::*;
use crate::policy::{Batch, Edits, MaskedColumn, NULL, StreamColumn};
use crate::schema::LabelSet;

fn setting(name: &str, file: &str) -> config::Plugin {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/plugins").join(file);
    assert!(path.exists(), "{} is missing: run `cargo xtask plugins`", path.display());
    config::Plugin {
        name: name.to_owned(),
        path,
        config: toml::Table::new(),
        memory_mib: 16,
        timeout_ms: 200,
    }
}

fn load(file: &str) -> Plugins {
    let keys = BTreeMap::from([("k".to_owned(), Secret::from("0123456789abcdef"))]);
    Plugins::load(&[setting("p", file)], keys, 1).unwrap()
}

fn mask(plugins: &Plugins, spec: &str, cells: &[Option<&str>]) -> Result<Edits, PluginFault> {
    let masked = MaskedColumn {
        index: 0,
        may_keep: Some(0),
        mask: MaskSpec::parse(&format!("p/{spec}")).unwrap(),
        labels: LabelSet::EMPTY,
        label_names: vec!["pii".to_owned()],
        rule: "r".to_owned(),
    };
    let columns = vec![StreamColumn { masked: &masked, type_code: 253, charset: 45 }];
    let info = StreamInfo { plugin: "p", binary: false, columns, subject: "ann" };
    let mut stream = plugins.open(0, &info)?;
    let flat: Vec<u8> = cells.iter().flatten().flat_map(|text| text.bytes()).collect();
    let len = |cell: Option<&str>| cell.map_or(NULL, |text| u32::try_from(text.len()).unwrap());
    let lens: Vec<u32> = cells.iter().copied().map(len).collect();
    let mut edits = Edits::default();
    let rows = u32::try_from(cells.len()).unwrap();
    stream.filter(Batch { rows, cells: &flat, lens: &lens }, &mut edits)?;
    Ok(edits)
}

#[test]
fn the_standard_masks_run() {
    let plugins = load("mask-standard.wasm");
    let edits =
        mask(&plugins, "keep-last:4", &[Some("4111111111111111"), None, Some("x")]).unwrap();
    assert_eq!(edits.replacement, b"*************");
    assert_eq!((edits.edits[0].start, edits.edits[0].len), (0, 12));
    assert_eq!(mask(&plugins, "redact", &[Some("secret")]).unwrap().replacement, b"[redacted]");
    let hashed = mask(&plugins, "hash:k", &[Some("a"), Some("a"), Some("b")]).unwrap().replacement;
    assert_eq!(hashed[..16], hashed[16..32]);
    assert_ne!(hashed[..16], hashed[32..48]);
    assert!(mask(&plugins, "hash:nokey", &[Some("a")]).is_err());
    assert!(plugins.check_mask(&MaskSpec::parse("p/redact").unwrap()).is_ok());
    assert!(plugins.check_mask(&MaskSpec::parse("p/nothing").unwrap()).is_err());
    assert!(plugins.check_mask(&MaskSpec::parse("q/redact").unwrap()).is_err());
}

#[test]
fn a_detector_finds_a_card_in_a_note() {
    let plugins = load("classify-pii.wasm");
    let cells = [Some("nothing"), Some("card 4532015112830366!")];
    let edits = mask(&plugins, "spans", &cells).unwrap();
    assert_eq!(edits.edits.len(), 1);
    assert_eq!((edits.edits[0].start, edits.edits[0].len), (7 + 5, 16));
    let values = [Some(b"ann@mail.example".to_vec()), None];
    let labels = plugins.classify_values(&values).unwrap();
    assert_eq!(labels[0][0].label, "pii");
    assert!(labels[1].is_empty());
}

/// It fails for this reason, again and again, until it is left alone for a while.
fn misbehaves(file: &str, wanted: &str) {
    let plugins = load(file);
    for _ in 0..5 {
        let fault = mask(&plugins, "redact", &[Some("secret"), Some("other")]).unwrap_err();
        assert!(fault.to_string().contains(wanted), "{file}: {fault}");
    }
    let fault = mask(&plugins, "redact", &[Some("secret")]).unwrap_err();
    assert_eq!(fault, PluginFault::Quarantined("p".to_owned()));
    assert_eq!(plugins.stats().next().unwrap().1.faults, 5);
}

#[test]
fn one_that_loops_for_ever_is_stopped() {
    misbehaves("test/loops.wasm", "out of time");
}

#[test]
fn one_that_allocates_without_end_is_stopped() {
    misbehaves("test/allocates.wasm", "out of memory");
}

#[test]
fn one_that_traps_is_thrown_away() {
    misbehaves("test/traps.wasm", "trapped");
}

#[test]
fn files_that_are_no_plugins() {
    let dir = tempfile::tempdir().unwrap();
    let error = |bytes: Option<&[u8]>| {
        let mut setting = setting("p", "mask-standard.wasm");
        setting.path = dir.path().join("p.wasm");
        if let Some(bytes) = bytes {
            std::fs::write(&setting.path, bytes).unwrap();
        }
        Plugins::load(&[setting], BTreeMap::new(), 1).unwrap_err().to_string()
    };
    assert!(error(None).contains("p.wasm: plugins.path"));
    assert!(error(Some(b"\0asm\x01\0\0\0")).contains("not a WASM component"));
    assert!(error(Some(b"\0asm\x01\0\0\0")).contains("a core module"));
    assert!(error(Some(b"hello")).contains("not a WASM component"));
    // an empty component: of no version at all
    assert!(error(Some(b"\0asm\x0d\0\x01\0")).contains("wit/v1"));
    let other = error(Some(&xtask::gateway::plugin_of_another_version().unwrap()));
    let said = "made for rowgate:plugin/classify@0.9.0, this gateway speaks rowgate:plugin/lifecycle@0.1.0";
    assert!(other.contains(said), "{other}");
}

#[test]
fn what_a_mask_made_is_recognised_and_everything_by_whom_can_not_tell() {
    let ask = |plugins: &Plugins, mask: &str, values: &[&str]| {
        let values: Vec<Vec<u8>> = values.iter().map(|value| value.as_bytes().to_vec()).collect();
        plugins.recognises(0, "ann", &MaskSpec::parse(mask).unwrap(), &values)
    };
    let standard = load("mask-standard.wasm");
    assert_eq!(ask(&standard, "p/keep-last:4", &["4111111111111111", ""]), Ok(false));
    assert_eq!(ask(&standard, "p/keep-last:4", &["4111111111111111", "****1111"]), Ok(true));
    let many = vec!["x"; 100_000];
    assert_eq!(ask(&standard, "p/redact", &many), Ok(false));
    assert_eq!(ask(&standard, "p/redact", &[&many[..], &["[redacted]"]].concat()), Ok(true));
    assert!(ask(&standard, "p/redact", &[&"x".repeat(2 << 20)]).is_err(), "longer than it takes");
    assert!(ask(&standard, "q/redact", &["x"]).is_err(), "not loaded");
    // As it was built before there was anything to ask it.
    let dir = tempfile::tempdir().unwrap();
    let mut setting = setting("p", "mask-standard.wasm");
    let bytes = std::fs::read(&setting.path).unwrap();
    let name = b"rowgate:plugin/recognise@";
    let mut older = bytes.clone();
    for at in 0..bytes.len() - name.len() {
        if bytes[at..].starts_with(name) {
            older[at + name.len() - 2] = b'r';
        }
    }
    assert_ne!(older, bytes);
    setting.path = dir.path().join("p.wasm");
    std::fs::write(&setting.path, older).unwrap();
    let older = Plugins::load(&[setting], BTreeMap::new(), 1).unwrap();
    assert_eq!(ask(&older, "p/redact", &["x"]), Ok(true));
    assert_eq!(ask(&older, "p/redact", &[]), Ok(false));
}

#[test]
fn what_is_no_plain_file_is_not_read_to_its_end() {
    for (path, words) in [("/dev/zero", "not a file of at most 64 MiB"), ("/tmp", "not a file")] {
        let error = inspect(std::path::Path::new(path)).unwrap_err().to_string();
        assert!(error.contains(path) && error.contains(words), "{error}");
    }
    let dir = tempfile::tempdir().unwrap();
    let huge = dir.path().join("huge.wasm");
    std::fs::File::create(&huge).unwrap().set_len(1 << 40).unwrap();
    assert!(inspect(&huge).unwrap_err().to_string().contains("at most 64 MiB"));
}

#[test]
fn configuration_is_the_plugins_own_word() {
    let mut setting = setting("guard", "guard-risk.wasm");
    setting.config.insert("max_rowz".to_owned(), toml::Value::Integer(5));
    let error = Plugins::load(&[setting], BTreeMap::new(), 1).unwrap_err().to_string();
    assert!(error.contains("guard") && error.contains("max_rowz"), "{error}");
}

#[test]
fn inspection() {
    let path = setting("p", "mask-standard.wasm").path;
    let found = inspect(&path).unwrap();
    assert_eq!((found.name.as_str(), found.hooks.as_slice()), ("mask-standard", &["mask"][..]));
    assert!(found.imports.iter().all(|name| name.starts_with("rowgate:plugin/")), "{found:?}");
}

#[test]
fn edits_survive_the_guests_clean_up() {
    let plugins = load("classify-pii.wasm");
    let note = xtask::shop::customer(3).notes;
    let edits = mask(&plugins, "spans", &[Some(&note), Some("Prefers box 4.")]).unwrap();
    let start = u32::try_from(note.find("55").unwrap()).unwrap();
    assert_eq!((edits.edits[0].start, edits.edits[0].len), (start, 16));
    assert_eq!(edits.replacement, b"[redacted]");
}
