//! Tokens and identities over the admin API.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::{DANA, House, call, run};
use crate::control::Gateway as _;
use crate::identity::{Attempt, Proof};
use crate::policy::{NoPlugins, Policies, Snapshot};
use crate::secret::Secret;

#[test]
fn tokens_are_made_listed_and_revoked() {
    run(async |house| {
        let socket = house.serve("dana.sock", DANA);
        let body = r#"{"identity": "bot", "groups": ["agents"], "expires_s": 60}"#;
        let (status, made) = call(&socket, "POST", "/v1/tokens", body).await;
        assert_eq!((status, &made["kind"]), (200, &json!("agent")));
        let token = made["token"].as_str().unwrap().to_owned();
        let directory = house.directory().await;
        let proof = Proof::Clear(Secret::from(token.as_str()));
        assert_eq!(directory.admit(&attempt("bot", &proof), 0).unwrap().0.groups, ["agents"]);
        let (_, list) = call(&socket, "GET", "/v1/tokens", "").await;
        assert_eq!(list["tokens"][0]["created_by"], json!("dana"));
        assert!(!list.to_string().contains(&token) && !list.to_string().contains("sha"));
        let path = format!("/v1/tokens/{}/revoke", made["id"].as_str().unwrap());
        assert_eq!(call(&socket, "POST", &path, "").await.0, 200);
        let directory = house.directory().await;
        assert!(directory.admit(&attempt("bot", &proof), 0).is_err());
        assert_eq!(call(&socket, "POST", &path, "").await.0, 409);
        assert_eq!(call(&socket, "POST", "/v1/tokens/tok_x/revoke", "").await.0, 404);
        assert_eq!(house.gateway.told.load(Ordering::Relaxed), 2, "made, and revoked once");
        assert_eq!(house.events()[0], "dana: token.create bot");
    });
}

fn attempt<'a>(user: &'a str, proof: &'a Proof) -> Attempt<'a> {
    Attempt { user, proof, certificate: None, target: "shop", address: None }
}

#[test]
fn tokens_are_limited_and_rotated() {
    run(async |house| {
        let socket = house.serve("dana.sock", DANA);
        let make = async |body: &str| call(&socket, "POST", "/v1/tokens", body).await;
        let body = r#"{"identity": "bot", "groups": ["agents"], "expires_s": 7200,
                       "targets": ["shop"], "networks": ["10.0.0.0/8", "::1"]}"#;
        let (status, first) = make(body).await;
        assert_eq!(status, 200, "{first}");
        for bad in [r#""targets": ["crm"]"#, r#""targets": [""]"#, r#""networks": ["10.0.0.1/8"]"#]
        {
            let (status, answer) = make(&format!(r#"{{"identity": "bot", {bad}}}"#)).await;
            assert_eq!(status, 400, "{bad}: {answer}");
        }
        let rotate = async |id: &str, body: &str| {
            call(&socket, "POST", &format!("/v1/tokens/{id}/rotate"), body).await
        };
        let id = first["id"].as_str().unwrap();
        let (status, second) = rotate(id, "").await;
        assert_eq!(status, 200, "{second}");
        assert_ne!(second["token"], first["token"]);
        for same in ["identity", "kind", "groups", "targets", "networks"] {
            assert_eq!(second[same], first[same], "{same}");
        }
        let lifetime = |token: &Value| {
            token["expires_us"].as_i64().unwrap() - token["created_us"].as_i64().unwrap()
        };
        assert_eq!(lifetime(&second), 7_200_000_000);
        assert_eq!(rotate(id, "").await.0, 409, "twice");
        assert_eq!(rotate("tok_x", "").await.0, 404);
        let second_id = second["id"].as_str().unwrap();
        assert_eq!(rotate(second_id, r#"{"overlap_s": 0}"#).await.0, 200);
        let (_, list) = call(&socket, "GET", "/v1/tokens", "").await;
        let tokens = list["tokens"].as_array().unwrap();
        let of = |id: &str| tokens.iter().find(|token| token["id"] == id).unwrap();
        let overlap =
            of(id)["expires_us"].as_i64().unwrap() - of(second_id)["created_us"].as_i64().unwrap();
        assert_eq!((overlap, &of(id)["revoked_us"]), (3_600_000_000, &Value::Null));
        assert_eq!(of(id)["replaced_by"], second["id"]);
        assert!(of(second_id)["revoked_us"].is_i64(), "at once");
        assert_eq!(house.gateway.told.load(Ordering::Relaxed), 3);
        assert_eq!(house.events()[1], format!("dana: token.rotate {id}"));
    });
}

#[test]
fn no_more_tokens_live_than_logins_try() {
    run(async |house| {
        let socket = house.serve("dana.sock", DANA);
        let make = async || call(&socket, "POST", "/v1/tokens", r#"{"identity": "bot"}"#).await;
        let mut last = Value::Null;
        for _ in 0..crate::identity::MAX_LIVE_TOKENS {
            let (status, made) = make().await;
            assert_eq!(status, 200);
            last = made;
        }
        assert_eq!(make().await.0, 409);
        let path = format!("/v1/tokens/{}/rotate", last["id"].as_str().unwrap());
        assert_eq!(call(&socket, "POST", &path, "").await.0, 409, "both would be live");
        let at_once = call(&socket, "POST", &path, r#"{"overlap_s": 0}"#).await;
        assert_eq!(at_once.0, 200, "{}", at_once.1);
    });
}

#[test]
fn identities_are_revoked_and_restored() {
    run(async |house| {
        let socket = house.serve("dana.sock", DANA);
        let post = async |path: &str, body: &str| call(&socket, "POST", path, body).await.0;
        let (_, made) = call(&socket, "POST", "/v1/tokens", r#"{"identity": "bot"}"#).await;
        let proof = Proof::Clear(Secret::from(made["token"].as_str().unwrap()));
        let revoke = "/v1/identities/revoke";
        let bot = r#"{"identity": "bot", "reason": "a leak"}"#;
        assert_eq!(post(revoke, bot).await, 200);
        assert_eq!(post(revoke, bot).await, 409);
        assert_eq!(post(revoke, r#"{"identity": "spiffe://a/b;c"}"#).await, 400);
        assert_eq!(post(revoke, "{}").await, 400);
        // Someone whom only an issuer knows can be kept out as well.
        assert_eq!(post(revoke, r#"{"identity": "ann@example.org"}"#).await, 200);
        let directory = house.directory().await;
        let refused = directory.admit(&attempt("bot", &proof), 0).unwrap_err();
        assert_eq!(refused.label(), "revoked");
        let (_, list) = call(&socket, "GET", "/v1/identities", "").await;
        let listed = &list["identities"];
        assert_eq!(
            (&listed[0]["identity"], &listed[0]["live_tokens"]),
            (&json!("ann@example.org"), &json!(0))
        );
        assert_eq!((&listed[1]["identity"], &listed[1]["live_tokens"]), (&json!("bot"), &json!(1)));
        assert_eq!(
            (&listed[1]["revoked_by"], &listed[1]["reason"]),
            (&json!("dana"), &json!("a leak"))
        );
        let restore = "/v1/identities/restore";
        assert_eq!(post(restore, r#"{"identity": "bot"}"#).await, 200);
        assert_eq!(post(restore, r#"{"identity": "bot"}"#).await, 409);
        assert!(house.directory().await.admit(&attempt("bot", &proof), 0).is_ok());
        assert_eq!(house.gateway.told.load(Ordering::Relaxed), 4);
        let events = house.events();
        assert_eq!(events[1], "dana: identity.revoke bot: a leak");
        assert!(events.contains(&"dana: identity.restore bot".to_owned()));
        // Who revokes is told when it is not in force yet.
        house.gateway.is_busy.store(true, Ordering::Relaxed);
        assert_eq!(post(revoke, bot).await, 503);
        assert!(house.directory().await.admit(&attempt("bot", &proof), 0).is_err());
        house.gateway.is_busy.store(false, Ordering::Relaxed);
        assert_eq!(post(restore, r#"{"identity": "bot"}"#).await, 200);
        // What can't be recorded is not done.
        house.record_fails.store(true, Ordering::Relaxed);
        assert_eq!(post(revoke, bot).await, 503);
        assert!(house.directory().await.admit(&attempt("bot", &proof), 0).is_ok());
    });
}

impl House {
    /// The default bundle over the logins that the store has.
    async fn publish(&self) {
        let text = include_str!("../../../policies/default.cedar");
        let members = [("bot".to_owned(), vec!["dumpers".to_owned(), "knitters".to_owned()])];
        let snapshot = Snapshot {
            serial: 1,
            version: "1".into(),
            policies: Arc::new(Policies::load(&[("default.cedar", text)]).unwrap()),
            directory: Arc::new(self.directory().await.with_members(members.into())),
            plugins: Arc::new(NoPlugins),
            catalogs: vec![],
        };
        *self.gateway.snapshot.lock().unwrap() = Some(Arc::new(snapshot));
    }
}

#[test]
fn a_token_and_a_name_are_explained_to_administrators_alone() {
    run(async |house| {
        let socket = house.serve("dana.sock", DANA);
        let other = house.serve("ann.sock", Some(("ann", &["dba", "auditors"])));
        let path = "/v1/identities/explain";
        assert_eq!(call(&socket, "POST", path, r#"{"user": "bot"}"#).await.0, 503, "no snapshot");
        let body = r#"{"identity": "bot", "groups": ["agents"], "targets": ["shop"]}"#;
        let token = call(&socket, "POST", "/v1/tokens", body).await.1["token"].clone();
        let body = r#"{"identity": "ann", "kind": "human", "groups": ["admins", "choir"]}"#;
        let person = call(&socket, "POST", "/v1/tokens", body).await.1["token"].clone();
        house.publish().await;
        let ask = json!({ "token": token }).to_string();
        assert_eq!(call(&other, "POST", path, &ask).await.0, 403);
        let (status, answer) = call(&socket, "POST", path, &ask).await;
        assert_eq!(status, 200, "{answer}");
        assert!(!answer.to_string().contains(token.as_str().unwrap()), "{answer}");
        let way = &answer["ways"][0];
        assert_eq!((&way["subject"], &way["refused"]), (&json!("bot"), &Value::Null));
        let groups: Vec<_> =
            way["groups"].as_array().unwrap().iter().map(|g| &g["group"]).collect();
        assert_eq!(groups, ["agents", "dumpers", "knitters"]);
        assert_eq!(way["unnamed_groups"], json!(["knitters"]));
        let shop = json!([{"target": "shop", "access": "passthrough", "rule": "dumpers"}]);
        assert_eq!((&way["targets"], &way["may"]), (&shop, &json!([])));
        let (_, answer) =
            call(&socket, "POST", path, &json!({ "token": person }).to_string()).await;
        let way = &answer["ways"][0];
        assert_eq!(way["may"], json!(["sign-in", "approve", "audit", "administer"]));
        assert_eq!(way["targets"][0]["access"], json!("denied"));
        assert_eq!(way["unnamed_groups"], json!(["choir"]));
        let ask = json!({ "token": person, "user": "bot" }).to_string();
        let (_, answer) = call(&socket, "POST", path, &ask).await;
        let way = &answer["ways"][0];
        assert_eq!((&way["refused"], &way["may"]), (&json!("proof"), &json!([])));
        let (_, answer) = call(&socket, "POST", path, r#"{"user": "bot"}"#).await;
        assert_eq!(answer["ways"].as_array().unwrap().len(), 1);
        assert_eq!(answer["ways"][0]["targets"], shop);
        assert_eq!(call(&socket, "POST", path, "").await.0, 400);
    });
}

#[test]
fn what_a_token_is_not_for_is_closed() {
    run(async |house| {
        let socket = house.serve("dana.sock", DANA);
        let body = r#"{"identity": "bot", "groups": ["agents"]}"#;
        let token = call(&socket, "POST", "/v1/tokens", body).await.1["token"].clone();
        let id = call(&socket, "GET", "/v1/tokens", "").await.1["tokens"][0]["id"].clone();
        let mut tokens = house.store.logins().await.unwrap().tokens;
        tokens[0].scope.targets = vec!["crm".into()];
        house.publish().await;
        let directory = crate::identity::Directory::new(
            tokens,
            vec![],
            vec![],
            std::collections::HashSet::new(),
        );
        let old = house.gateway.snapshot().unwrap();
        let snapshot = Snapshot {
            serial: 2,
            version: "2".into(),
            policies: Arc::clone(&old.policies),
            directory: Arc::new(directory),
            plugins: Arc::clone(&old.plugins),
            catalogs: vec![],
        };
        *house.gateway.snapshot.lock().unwrap() = Some(Arc::new(snapshot));
        let ask = json!({ "token": token }).to_string();
        let (_, answer) = call(&socket, "POST", "/v1/identities/explain", &ask).await;
        let way = &answer["ways"][0];
        assert_eq!(way["by"], json!(format!("token {}", id.as_str().unwrap())));
        assert_eq!(way["targets"][0]["access"], json!("closed"));
        assert_eq!(way["only_targets"], json!(["crm"]));
    });
}
