//! Policies: they apply to what is there, and stop applying when they go.

use serde_json::{Value, json};

use super::broker;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_best_policy_applies_and_an_operator_limits_it() {
    let (broker, http) = broker().await;
    http.change("PUT", "queues/%2F/q.1", json!({"durable": true, "arguments": {"x-expires": 600_000}})).await;
    let policy = |priority, definition: Value| json!({"pattern": "^q", "apply-to": "queues", "priority": priority, "definition": definition});
    http.change("PUT", "policies/%2F/weak", policy(0, json!({"max-length": 10}))).await;
    http.change("PUT", "policies/%2F/strong", policy(5, json!({"max-length": 20, "expires": 900_000}))).await;
    http.change("PUT", "operator-policies/%2F/ceiling", policy(0, json!({"max-length": 15}))).await;
    let queue = http.get("queues/%2F/q.1").await;
    assert_eq!((&queue["policy"], &queue["operator_policy"]), (&json!("strong"), &json!("ceiling")));
    assert_eq!(queue["effective_policy_definition"], json!({"max-length": 15, "expires": 900_000}));
    http.change("DELETE", "policies/%2F/strong", Value::Null).await;
    let queue = http.get("queues/%2F/q.1").await;
    assert_eq!((&queue["policy"], &queue["effective_policy_definition"]), (&json!("weak"), &json!({"max-length": 10})));
    // Not what no queue could do.
    let (status, answer) = http.call("PUT", "policies/%2F/wrong", Some(policy(0, json!({"max-length": -1})))).await;
    assert_eq!(status, 400, "{answer}");
    let (status, _) = http.call("DELETE", "policies/%2F/strong", None).await;
    assert_eq!(status, 404);
    broker.stop().await;
}
