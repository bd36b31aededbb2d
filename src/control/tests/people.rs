//! Session passwords over the admin API, and the device flow's routes, as the network would call them.

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt as _;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};

use super::{DANA, House, call, run};
use crate::clock::now_us;
use crate::control::device;
use crate::identity::{Attempt, LoginRefusal, Proof, Scope};
use crate::secret::Secret;

async fn login(house: &House, user: &str, password: &str) -> Result<Vec<String>, LoginRefusal> {
    let proof = Proof::Clear(Secret::from(password));
    let attempt = Attempt { user, proof: &proof, certificate: None, target: "shop", address: None };
    let now_us = now_us();
    let admitted = house.directory().await.admit(&attempt, now_us);
    admitted.map(|(principal, _)| principal.groups.clone())
}

#[test]
fn own_passwords_are_made_listed_and_revoked() {
    run(async |house| {
        let ann = house.serve("ann.sock", Some(("ann", &["support"])));
        let (status, made) =
            call(&ann, "POST", "/v1/passwords", r#"{"targets": ["shop"], "label": "laptop"}"#)
                .await;
        assert_eq!(
            (status, &made["kind"], &made["label"]),
            (200, &json!("human"), &json!("laptop"))
        );
        assert_eq!(made["reach"][0]["target"], json!("shop"));
        let lives_us = made["expires_us"].as_i64().unwrap() - made["created_us"].as_i64().unwrap();
        assert_eq!(lives_us, 28_800 * 1_000_000);
        let password = made["password"].as_str().unwrap().to_owned();
        assert!(password.starts_with("rgs_"));
        assert_eq!(login(&house, "ann", &password).await.unwrap(), ["support"]);
        let id = made["id"].as_str().unwrap();
        let (_, list) = call(&ann, "GET", "/v1/passwords", "").await;
        assert_eq!(list["passwords"][0]["id"], json!(id));
        assert!(!list.to_string().contains(&password) && !list.to_string().contains("sha"));
        assert_eq!(house.events(), [format!("ann: password.create {id} for shop")]);

        // Another sees and ends none of hers; who runs the gateway may.
        let bob = house.serve("bob.sock", Some(("bob", &["support"])));
        let (_, list) = call(&bob, "GET", "/v1/passwords", "").await;
        assert_eq!(list["passwords"], json!([]));
        assert_eq!(call(&bob, "GET", "/v1/passwords?all=true", "").await.0, 403);
        let path = format!("/v1/passwords/{id}/revoke");
        assert_eq!(call(&bob, "POST", &path, "").await.0, 404);
        let dana = house.serve("dana.sock", DANA);
        let (_, list) = call(&dana, "GET", "/v1/passwords?all=true", "").await;
        assert_eq!(list["passwords"][0]["identity"], json!("ann"));
        assert_eq!(call(&dana, "POST", &path, "").await.0, 200);
        assert_eq!(call(&dana, "POST", &path, "").await.0, 409);
        assert_eq!(login(&house, "ann", &password).await, Err(LoginRefusal::Revoked));
    });
}

#[test]
fn what_is_asked_for_is_checked() {
    run(async |house| {
        let ann = house.serve("ann.sock", Some(("ann", &["support"])));
        let make = async |body: &str| call(&ann, "POST", "/v1/passwords", body).await.0;
        for bad in [
            r#"{"targets": ["crm"]}"#,
            r#"{"ttl_s": 0}"#,
            r#"{"ttl_s": 43201}"#,
            r#"{"networks": ["10.0.0.1/8"]}"#,
            r#"{"identity": "dana"}"#,
            r#"{"groups": ["admins"]}"#,
            r#"{"label": "a\nb"}"#,
        ] {
            assert_eq!(make(bad).await, 400, "{bad}");
        }
        for _ in 0..crate::identity::MAX_LIVE_PASSWORDS {
            assert_eq!(make("{}").await, 200);
        }
        assert_eq!(make("{}").await, 409, "bounded");
        // Nor does a name that a login would read as another's, with something behind it.
        let odd = house.serve("odd.sock", Some(("ann;run=7", &["support"])));
        assert_eq!(call(&odd, "POST", "/v1/passwords", "{}").await.0, 403);
        // Root without a name, and who was revoked, get none.
        let nobody = house.serve("root.sock", None);
        assert_eq!(call(&nobody, "POST", "/v1/passwords", "{}").await.0, 403);
        let dana = house.serve("dana.sock", DANA);
        call(&dana, "POST", "/v1/identities/revoke", r#"{"identity": "bob"}"#).await;
        let bob = house.serve("bob.sock", Some(("bob", &[])));
        assert_eq!(call(&bob, "POST", "/v1/passwords", "{}").await.0, 403);
        // What can't be recorded is not done.
        house.record_fails.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(call(&dana, "POST", "/v1/passwords", "{}").await.0, 503);
        assert_eq!(house.store.passwords(Some("dana")).await.unwrap(), []);
    });
}

/// A call as the network would make it.
async fn post(house: &House, path: &str, form: &str) -> (u16, Value) {
    let front = device::Front {
        address: Some([192, 0, 2, 7].into()),
        site: Some("https://gate.example".into()),
    };
    let router = device::router(house.deps()).layer(axum::Extension(front));
    let request = Request::post(path)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from(form.to_owned()))
        .unwrap();
    let answer = TowerToHyperService::new(router).call(request).await.unwrap();
    let status = answer.status().as_u16();
    assert_eq!(answer.headers()["cache-control"], "no-store", "{path}");
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

const GRANT: &str = "grant_type=urn:ietf:params:oauth:grant-type:device_code";

#[test]
fn a_device_gets_a_password_once_a_person_agrees() {
    run(async |house| {
        let form = "client_id=rowgate&target=shop&from=192.0.2.0/24&ttl_s=600&label=build%20box";
        let (status, code) = post(&house, "/device/code", form).await;
        assert_eq!((status, &code["interval"], &code["expires_in"]), (200, &json!(5), &json!(600)));
        assert_eq!(code["verification_uri"], json!("https://gate.example/device"));
        let (device, user) =
            (code["device_code"].as_str().unwrap(), code["user_code"].as_str().unwrap());
        let poll = format!("{GRANT}&device_code={device}");

        let ann = house.serve("ann.sock", Some(("ann", &["support"])));
        let body = json!({ "code": user }).to_string();
        let (status, asked) = call(&ann, "POST", "/v1/device/show", &body).await;
        assert_eq!((status, &asked["address"]), (200, &json!("192.0.2.7")));
        assert_eq!((&asked["targets"], &asked["label"]), (&json!(["shop"]), &json!("build box")));
        assert_eq!(call(&ann, "POST", "/v1/device/confirm", &body).await.0, 200);
        assert_eq!(call(&ann, "POST", "/v1/device/confirm", &body).await.0, 404, "once");
        assert!(house.store.passwords(None).await.unwrap().is_empty(), "made when it is fetched");

        let (status, made) = post(&house, "/device/token", &poll).await;
        assert_eq!(status, 200, "{made}");
        let password = made["access_token"].as_str().unwrap();
        assert_eq!(
            (&made["expires_in"], &made["session"]["identity"]),
            (&json!(600), &json!("ann"))
        );
        let kept = house.store.passwords(Some("ann")).await.unwrap().remove(0).record;
        let networks = vec!["192.0.2.0/24".parse().unwrap()];
        assert_eq!(kept.scope, Scope { targets: vec!["shop".into()], networks });
        assert_eq!(login(&house, "ann", password).await, Err(LoginRefusal::Scope));
        let (_, again) = post(&house, "/device/token", &poll).await;
        assert_eq!(again["error"], json!("invalid_grant"), "once");
        assert_eq!(house.events()[0], "ann: device.confirm from 192.0.2.7");

        // Who holds it may end it; who does not, learns nothing.
        assert_eq!(post(&house, "/device/revoke", "token=rgs_unknown").await.0, 200);
        assert_eq!(post(&house, "/device/revoke", &format!("token={password}")).await.0, 200);
        assert!(house.store.passwords(Some("ann")).await.unwrap()[0].record.revoked);
    });
}

#[test]
fn devices_are_refused_by_the_words_of_oauth() {
    run(async |house| {
        for (path, form, error) in [
            ("/device/code", "target=crm", "invalid_request"),
            ("/device/code", "from=10.0.0.1/8", "invalid_request"),
            ("/device/code", "ttl_s=999999", "invalid_request"),
            ("/device/token", "grant_type=password&device_code=x", "unsupported_grant_type"),
            ("/device/token", &format!("{GRANT}&device_code=x"), "invalid_grant"),
        ] {
            let (status, answer) = post(&house, path, form).await;
            assert_eq!((status, &answer["error"]), (400, &json!(error)), "{path} {form}");
        }
        let ann = house.serve("ann.sock", Some(("ann", &[])));
        let (_, code) = post(&house, "/device/code", "").await;
        let body = json!({ "code": code["user_code"] }).to_string();
        assert_eq!(call(&ann, "POST", "/v1/device/deny", &body).await.0, 200);
        let poll = format!("{GRANT}&device_code={}", code["device_code"].as_str().unwrap());
        let (_, answer) = post(&house, "/device/token", &poll).await;
        assert_eq!(answer["error"], json!("access_denied"));
        // Whoever guesses is counted, whether they look first or not.
        let wrong = json!({ "code": "BBBB-BBBB" }).to_string();
        let ways = ["/v1/device/show", "/v1/device/confirm", "/v1/device/deny"];
        for way in ways.iter().cycle().take(10) {
            assert_eq!(call(&ann, "POST", way, &wrong).await.0, 404, "{way}");
        }
        for way in ways {
            assert_eq!(call(&ann, "POST", way, &wrong).await.0, 429, "{way}");
        }
        // The admin API knows none of the network's paths, nor these the admin API's.
        assert_eq!(call(&ann, "POST", "/device/code", "").await.0, 404);
    });
}
