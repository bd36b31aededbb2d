//! What watches a gateway: alerts that fire and have a page, dashboards whose every query a real Prometheus answers.
//! (Grafana itself is in no registry that the tests use: its JSON is checked for form and queries only.)

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use xtask::{http, mariadb, setup, sh};

use crate::stand::{Stand, errors, wait_for};

fn deploy(file: &str) -> PathBuf {
    sh::root().join("deploy").join(file)
}

const RULES: [&str; 2] = ["prometheus/recording.rules.yml", "prometheus/rowgate.rules.yml"];
const BOARDS: [&str; 2] = ["grafana/operations.json", "grafana/security.json"];

/// What Prometheus makes itself, and what every process has.
const NOT_OURS: [&str; 3] = ["up", "ALERTS", "process_"];

/// Every query of a dashboard, with its panel's title.
fn queries(board: &str) -> Vec<(String, String)> {
    let board: Value = serde_json::from_slice(&fs::read(deploy(board)).unwrap()).unwrap();
    let panels = board["panels"].as_array().unwrap().iter();
    let of_panel = |panel: &Value| -> Vec<(String, String)> {
        let title = panel["title"].as_str().unwrap().to_owned();
        let targets = panel["targets"].as_array().into_iter().flatten();
        targets.map(|target| (title.clone(), target["expr"].as_str().unwrap().to_owned())).collect()
    };
    let annotations = board["annotations"]["list"].as_array().unwrap().iter();
    let annotations = annotations.map(|a| (text(&a["name"]), text(&a["expr"])));
    panels.flat_map(of_panel).chain(annotations).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// The values of a key of the rules, which are a line each.
fn values(rules: &str, key: &str) -> Vec<String> {
    let lines = rules.lines().map(|line| line.trim_start().trim_start_matches("- "));
    lines.filter_map(|line| Some(line.strip_prefix(key)?.trim().to_owned())).collect()
}

#[test]
fn every_name_in_rules_and_dashboards_is_a_metric() {
    let stand = Stand::start();
    let token = stand.token("bot", "agents");
    stand.sql_ok("bot", &token, "SELECT ssn FROM customers LIMIT 1");
    let (_, metrics) = stand.gateway.get("/metrics").unwrap();
    assert!(!metrics.contains("bot"), "an identity is in the metrics");
    let rules = RULES.map(|file| fs::read_to_string(deploy(file)).unwrap()).join("\n");
    let recorded: BTreeSet<String> = values(&rules, "record:").into_iter().collect();
    let boards = BOARDS.iter().flat_map(|board| queries(board)).map(|(_, expr)| expr);
    let all: Vec<String> = boards.chain([rules]).collect();
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut seen = BTreeSet::new();
    for name in all.iter().flat_map(|text| text.split(|c| !is_name(c))) {
        if recorded.contains(name) || !(name.starts_with("rowgate_") || is_of_process(name)) {
            assert!(!name.starts_with("rowgate:") || recorded.contains(name), "{name}");
            continue;
        }
        let family = ["_bucket", "_sum"].iter().find_map(|part| name.strip_suffix(part));
        let family = family.unwrap_or(name);
        let is_there = metrics.contains(&format!("# TYPE {family} "));
        // Only where there is TLS.
        assert!(is_there || name.contains("certificate"), "no metric is called {family}");
        seen.insert(family.to_owned());
    }
    assert!(seen.len() > 25, "the names were not found: {seen:?}");
    let mut check = Command::new(promtool());
    check.args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut check = check.spawn().unwrap();
    check.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let output = check.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", errors(&output));
}

fn is_of_process(name: &str) -> bool {
    name.starts_with(NOT_OURS[2])
}

fn promtool() -> PathBuf {
    setup::prometheus().unwrap().join("promtool")
}

#[test]
fn alerts_fire_where_they_should_and_nowhere_else_and_each_has_a_page() {
    let mut check = Command::new(promtool());
    let output = check.args(["check", "rules"]).args(RULES.map(deploy)).output().unwrap();
    assert!(output.status.success(), "{}", sh::said(&output));
    let tests = deploy("prometheus/rowgate.test.yml");
    let output = Command::new(promtool()).args(["test", "rules"]).arg(&tests).output().unwrap();
    assert!(output.status.success(), "{}", sh::said(&output));
    let tests = fs::read_to_string(tests).unwrap();
    let rules = fs::read_to_string(deploy(RULES[1])).unwrap();
    let alerts = values(&rules, "alert:");
    let urls = values(&rules, "runbook_url:");
    assert_eq!(alerts.len(), urls.len());
    for (alert, url) in alerts.iter().zip(urls) {
        assert!(tests.contains(&format!("alertname=\"{alert}\"")), "{alert} is not tested");
        let page = format!("docs/runbook/{alert}.md");
        assert!(url.ends_with(&format!("/runbook/{alert}.md")), "{alert}: {url}");
        let page = fs::read_to_string(sh::root().join(&page)).expect(&page);
        for part in
            ["**Means.**", "**Users see.**", "**Look.**", "**Mend.**", "**Safe to ignore.**"]
        {
            assert!(page.contains(part), "{alert}: its page does not say {part}");
        }
    }
    for page in fs::read_dir(sh::root().join("docs/runbook")).unwrap() {
        let name = page.unwrap().file_name().into_string().unwrap();
        assert!(alerts.contains(&name.replace(".md", "")), "{name} is of no alert");
    }
}

/// A Prometheus that scrapes one gateway each second; ended when dropped.
struct Prometheus {
    port: u16,
    child: Child,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    fn start(folder: &Path, of: u16) -> Self {
        let port = mariadb::free_port().unwrap();
        let mut files = Vec::new();
        for rules in RULES {
            let text = fs::read_to_string(deploy(rules)).unwrap();
            let copy = folder.join(rules.replace('/', "-"));
            // The first evaluation is at some moment within the first interval.
            fs::write(&copy, text.replace("interval: 30s", "interval: 1s")).unwrap();
            files.push(format!("\"{}\"", copy.display()));
        }
        let config = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [{}]\n\
             scrape_configs: [{{ job_name: rowgate, static_configs: [{{ targets: [\"127.0.0.1:{of}\"] }}] }}]\n",
            files.join(", ")
        );
        fs::write(folder.join("prometheus.yml"), config).unwrap();
        let log = fs::File::create(folder.join("prometheus.log")).unwrap();
        let mut serve = Command::new(setup::prometheus().unwrap().join("prometheus"));
        serve.arg(format!("--config.file={}", folder.join("prometheus.yml").display()));
        serve.arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()));
        serve.arg(format!("--web.listen-address=127.0.0.1:{port}")).stdin(Stdio::null());
        let child = serve.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        Self { port, child }
    }

    /// What a query gives now; an error's text.
    fn query(&self, expr: &str) -> Result<Vec<Value>, String> {
        let escape = |b: u8| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(b).to_string(),
            _ => format!("%{b:02X}"),
        };
        let body = format!("query={}", expr.bytes().map(escape).collect::<String>());
        let form = Some(("application/x-www-form-urlencoded", body.as_str()));
        let answer = http::ask(self.port, "POST", "/api/v1/query", form);
        let (_, body) = answer.map_err(|error| error.to_string())?;
        let answer: Value = serde_json::from_str(&body).map_err(|error| error.to_string())?;
        let found = answer["data"]["result"].as_array();
        found.cloned().ok_or_else(|| answer["error"].as_str().unwrap_or(&body).to_owned())
    }
}

/// What has nothing to show on a stand without TLS that was started a moment ago: a panel, and the annotations.
const EMPTY: [&str; 3] = ["Certificates end in", "Starts", "Policies"];

#[test]
fn prometheus_answers_every_query_of_every_dashboard() {
    let stand = Stand::with(|options| options.wait_s = 1);
    let token = stand.token("bot", "agents");
    let prometheus = Prometheus::start(stand.folder.path(), stand.gateway.admin_port);
    stand.sql_ok("bot", &token, "SELECT ssn FROM customers LIMIT 1");
    wait_for("a scrape", || {
        prometheus.query("rowgate_masked_cells_total > 0").ok().filter(|found| !found.is_empty())
    });
    // (Counters must be seen to grow.)
    stand.sql_ok("bot", &token, "SELECT ssn, email FROM customers LIMIT 2");
    stand.sql_refused("bot", &token, "DROP TABLE payments");
    stand.sql_refused("bot", &token, "SELECT * FROM mysql.user");
    stand.sql_refused("bot", "rgt_wrong", "SELECT 1");
    wait_for("the recording rules", || {
        let shares = "rowgate:stage_share:rate5m{stage=\"hold\"} > 0";
        prometheus.query(shares).ok().filter(|found| !found.is_empty())
    });
    let mut empty = Vec::new();
    for board in BOARDS {
        for (panel, expr) in queries(board) {
            let now = expr.replace("$instance", ".*").replace("$__rate_interval", "1m");
            let found =
                prometheus.query(&now).unwrap_or_else(|why| panic!("{panel}: {now}: {why}"));
            if found.is_empty() {
                empty.push(panel);
            }
        }
    }
    empty.retain(|panel| !EMPTY.contains(&panel.as_str()));
    assert!(empty.is_empty(), "nothing to see: {empty:?}");
    let (_, rules) = http::ask(prometheus.port, "GET", "/api/v1/rules", None).unwrap();
    let rules: Value = serde_json::from_str(&rules).unwrap();
    let groups = rules["data"]["groups"].as_array().unwrap().iter();
    let rules: Vec<&Value> = groups.flat_map(|group| group["rules"].as_array().unwrap()).collect();
    let ill: Vec<_> = rules.iter().filter(|rule| rule["health"] == "err").collect();
    assert!(ill.is_empty() && rules.len() > 25, "{ill:?}");
    let firing: Vec<_> = rules.iter().filter(|rule| rule["state"] == "firing").collect();
    assert!(firing.is_empty(), "{firing:?}");
}
