//! MySQL's binaries on a machine whose Debian has none: the packages of Debian's unstable suite, with every library
//! they need, unpacked under `target/mysql9`. apt keeps a state of its own there: nothing is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::sh;

/// What is wanted. mysql-server and mysql-client hold the plugins, the messages and the tools.
const PACKAGES: [&str; 5] =
    ["mysql-server-core", "mysql-server", "mysql-client-core", "mysql-client", "mysql-router"];

/// Those whose dependencies are followed: the others would bring an init system and Perl.
const ROOTS: [&str; 3] = ["mysql-server-core", "mysql-client-core", "mysql-router"];

/// The unpacked packages.
#[derive(Clone, Debug)]
pub struct Tree(PathBuf);

impl Tree {
    /// The tree that [`fetch`] made.
    pub fn here() -> Result<Self> {
        let tree = Self::place();
        ensure!(tree.is_done(), "MySQL is missing: run `cargo xtask setup`");
        Ok(tree)
    }

    fn place() -> Self {
        Self(sh::target_dir().join("mysql9"))
    }

    fn is_done(&self) -> bool {
        self.0.join("done").exists()
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.0
    }

    /// The plugins of server and client.
    pub fn plugins(&self) -> PathBuf {
        self.0.join("root/usr/lib/mysql/plugin")
    }

    /// A program of the tree, run by the tree's own loader, whose C library is newer than the machine's.
    pub fn program(&self, name: &str) -> Command {
        let root = self.0.join("root/usr");
        let libraries = root.join(format!("lib/{ARCH}-linux-gnu", ARCH = std::env::consts::ARCH));
        let [sbin, bin] = ["sbin", "bin"].map(|folder| root.join(folder).join(name));
        let mut command = Command::new(self.0.join("loader"));
        command.arg("--library-path").arg(format!(
            "{}:{}",
            libraries.display(),
            root.join("lib/mysql-router").display()
        ));
        command.arg(if sbin.exists() { sbin } else { bin });
        command
    }
}

/// Fetches and unpacks the packages, once.
pub fn fetch() -> Result<Tree> {
    let tree = Tree::place();
    if tree.is_done() {
        return Ok(tree);
    }
    sh::step("fetching MySQL from Debian's unstable suite into target/mysql9 (once, 130 MB)");
    let apt = Apt::new(tree.root().join("apt"))?;
    println!("    reading the suite's index from {}", apt.mirror);
    apt.run("apt-get", &["-qq", "update"])?;
    let packages = apt.packages()?;
    println!("    downloading {} packages", packages.len());
    let words: Vec<&str> = packages.iter().map(String::as_str).collect();
    apt.run("apt-get", &[&["-qq", "download"], &words[..]].concat())?;
    println!("    unpacking");
    let root = tree.root().join("root");
    fs::create_dir_all(&root)?;
    for package in fs::read_dir(apt.downloads())? {
        sh::capture(Command::new("dpkg").arg("-x").arg(package?.path()).arg(&root))?;
    }
    link_loader(&tree)?;
    let said = sh::capture(tree.program("mysqld").args(["--no-defaults", "--version"]))?;
    fs::remove_dir_all(&apt.folder)?;
    let version = String::from_utf8_lossy(&said.stdout).trim().to_owned();
    fs::write(tree.root().join("done"), &version)?;
    println!("    {version}");
    Ok(tree)
}

/// Links the loader, whose name and folder differ between architectures, to one place.
fn link_loader(tree: &Tree) -> Result<()> {
    let usr = tree.root().join("root/usr");
    let folders = ["lib64", "lib"].map(|folder| usr.join(folder));
    let files = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
    let loader = files
        .map(|file| file.path())
        .find(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("ld-linux")))
        .context("libc6 holds no loader")?;
    let link = tree.root().join("loader");
    let _ = fs::remove_file(&link);
    std::os::unix::fs::symlink(loader, link).context("linking the loader")
}

/// An apt with lists, caches and state in a folder of its own.
struct Apt {
    folder: PathBuf,
    mirror: String,
}

impl Apt {
    fn new(folder: PathBuf) -> Result<Self> {
        let _ = fs::remove_dir_all(&folder);
        for name in ["lists/partial", "cache/archives/partial", "state", "downloads"] {
            fs::create_dir_all(folder.join(name))?;
        }
        fs::write(folder.join("state/status"), "")?;
        let mirror = mirror()?;
        // Bookworm's keys sign unstable's index as well, so it is verified like any other.
        let source = format!("deb {mirror} sid main\n");
        fs::write(folder.join("sources.list"), source)?;
        Ok(Self { folder, mirror })
    }

    fn downloads(&self) -> PathBuf {
        self.folder.join("downloads")
    }

    fn run(&self, program: &str, words: &[&str]) -> Result<String> {
        let at = |name: &str| self.folder.join(name).display().to_string();
        let mut command = Command::new(program);
        for setting in [
            format!("Dir::Etc::sourcelist={}", at("sources.list")),
            "Dir::Etc::sourceparts=-".to_owned(),
            format!("Dir::State={}", at("state")),
            format!("Dir::State::lists={}", at("lists")),
            format!("Dir::State::status={}", at("state/status")),
            format!("Dir::Cache={}", at("cache")),
            "APT::Sandbox::User=root".to_owned(),
            "APT::Install-Recommends=false".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::Retries=3".to_owned(),
        ] {
            command.arg("-o").arg(setting);
        }
        command.args(words).current_dir(self.downloads());
        let output = sh::capture(&mut command)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The wanted packages and the libraries that they need.
    fn packages(&self) -> Result<Vec<String>> {
        let plan = self.run("apt-get", &[&["-s", "install"], &ROOTS[..]].concat())?;
        let all = plan.lines().filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next());
        let mut packages: Vec<String> = all
            .filter(|name| ["lib", "gcc-", "zlib1g"].iter().any(|start| name.starts_with(start)))
            .map(str::to_owned)
            .chain(PACKAGES.map(str::to_owned))
            .collect();
        packages.sort();
        packages.dedup();
        if packages.len() < 2 * PACKAGES.len() {
            bail!("apt plans no libraries for {ROOTS:?}:\n{plan}");
        }
        Ok(packages)
    }
}

/// The mirror that the machine's apt uses.
fn mirror() -> Result<String> {
    let files = ["/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"];
    let texts = files.iter().filter_map(|file| fs::read_to_string(file).ok());
    let mirror = texts.into_iter().find_map(|text| {
        let lines = text.lines().filter(|l| l.starts_with("URIs:") || l.starts_with("deb "));
        let mut words = lines.flat_map(str::split_whitespace);
        words.find(|word| word.starts_with("http")).map(str::to_owned)
    });
    mirror.with_context(|| format!("no mirror of Debian in {files:?}"))
}
