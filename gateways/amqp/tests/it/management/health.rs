//! Health checks, and what tools ask for first.

use serde_json::json;

use super::broker;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checks_tell_what_is_and_what_is_not() {
    let (broker, http) = broker().await;
    let port = broker.gateway.address().port();
    for check in ["alarms", "local-alarms", "virtual-hosts", "node-is-quorum-critical", "protocol-listener/amqp091"] {
        assert_eq!(http.get(&format!("health/checks/{check}")).await["status"], "ok", "{check}");
    }
    assert_eq!(http.get(&format!("health/checks/port-listener/{port}")).await["status"], "ok");
    for check in ["port-listener/1", "protocol-listener/mqtt", "protocol-listener/amqps"] {
        let (status, answer) = http.call("GET", &format!("health/checks/{check}"), None).await;
        assert_eq!((status, &answer["status"]), (503, &json!("failed")), "{check}");
    }
    assert_eq!(http.get("aliveness-test/%2F").await["status"], "ok");
    let overview = http.get("overview").await;
    assert_eq!((&overview["product_name"], &overview["object_totals"]["queues"]), (&json!("RabbitMQ"), &json!(1)));
    assert_eq!(http.get("nodes").await[0]["running"], true);
    broker.stop().await;
}
