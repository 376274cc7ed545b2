//! Who may ask for what, by its tags and its permissions.

use serde_json::{Value, json};

use super::broker;
use super::http::Http;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tags_and_permissions_say_who_may_do_what() {
    let (broker, http) = broker().await;
    http.change("PUT", "vhosts/a", json!({"description": "one"})).await;
    http.change("PUT", "vhosts/b", json!({})).await;
    for (user, tags) in [("plain", ""), ("user", "management"), ("monitor", "monitoring"), ("maker", "policymaker")] {
        http.change("PUT", &format!("users/{user}"), json!({"password": "secret", "tags": tags})).await;
        let own = json!({"configure": "^mine", "write": "^mine", "read": "^mine"});
        http.change("PUT", &format!("permissions/a/{user}"), own).await;
    }
    let of = |user: &str| Http::of(&broker, user, "secret");
    let status = async |user: &str, method: &str, path: &str, body: Value| {
        of(user).call(method, path, (!body.is_null()).then_some(body)).await.0
    };
    // Who asks at all.
    assert_eq!(Http::of(&broker, "user", "wrong").call("GET", "whoami", None).await.0, 401);
    assert_eq!(status("plain", "GET", "whoami", Value::Null).await, 401);
    assert_eq!(of("user").get("whoami").await["tags"], json!(["management"]));
    // What is others'.
    assert_eq!(of("user").get("vhosts").await.as_array().unwrap().len(), 1);
    assert_eq!(of("monitor").get("vhosts").await.as_array().unwrap().len(), 3);
    assert_eq!(status("user", "GET", "queues/b", Value::Null).await, 401);
    assert_eq!(status("monitor", "GET", "queues/b", Value::Null).await, 200);
    for path in ["users", "permissions", "definitions"] {
        assert_eq!(status("monitor", "GET", path, Value::Null).await, 401, "{path}");
    }
    assert_eq!(status("user", "PUT", "vhosts/c", json!({})).await, 401);
    // What a connection could not do, either.
    assert_eq!(status("user", "PUT", "queues/a/mine.q", json!({})).await, 201);
    assert_eq!(status("user", "PUT", "queues/a/yours.q", json!({})).await, 401);
    assert_eq!(status("user", "PUT", "exchanges/a/yours.x", json!({"type": "direct"})).await, 401);
    assert_eq!(status("monitor", "PUT", "queues/b/mine.q", json!({})).await, 401);
    http.change("PUT", "permissions/a/guest", json!({"configure": ".*", "write": ".*", "read": ".*"})).await;
    http.change("PUT", "queues/a/yours.q", json!({})).await;
    assert_eq!(status("user", "DELETE", "queues/a/yours.q", Value::Null).await, 401);
    assert_eq!(status("user", "DELETE", "queues/a/yours.q/contents", Value::Null).await, 401);
    let get = json!({"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"});
    assert_eq!(status("user", "POST", "queues/a/yours.q/get", get).await, 401);
    // Policies are for those that make them.
    let policy = json!({"pattern": "^mine", "definition": {"max-length": 5}});
    assert_eq!(status("user", "PUT", "policies/a/p", policy.clone()).await, 401);
    assert_eq!(status("maker", "PUT", "policies/a/p", policy.clone()).await, 201);
    assert_eq!(status("maker", "PUT", "operator-policies/a/p", policy).await, 401);
    // A user that is gone is nobody.
    http.change("DELETE", "users/user", Value::Null).await;
    assert_eq!(status("user", "GET", "whoami", Value::Null).await, 401);
    broker.stop().await;
}
