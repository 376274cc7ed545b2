//! What the gateway counts for whoever watches it.

use std::sync::atomic::{AtomicU64, Ordering};

use gateway_runtime::admin::Metrics;

use crate::handlers::SERVED;

/// Counts by the place of a request in the table of what is served.
#[derive(Debug)]
pub struct Counts {
    apis: Vec<ApiCounts>,
}

#[derive(Debug, Default)]
struct ApiCounts {
    requests: AtomicU64,
    request_bytes: AtomicU64,
    response_bytes: AtomicU64,
    errors: AtomicU64,
}

/// A metric by API: its name, what it says, and where its number is.
type ByApi = (&'static str, &'static str, fn(&ApiCounts) -> &AtomicU64);

const BY_API: [ByApi; 4] = [
    ("polymq_kafka_requests_total", "Requests.", |counts| &counts.requests),
    ("polymq_kafka_request_bytes_total", "Bytes of requests.", |counts| &counts.request_bytes),
    ("polymq_kafka_response_bytes_total", "Bytes of responses.", |counts| &counts.response_bytes),
    ("polymq_kafka_errors_total", "Error codes in responses.", |counts| &counts.errors),
];

impl Default for Counts {
    fn default() -> Self {
        Counts { apis: SERVED.iter().map(|_| ApiCounts::default()).collect() }
    }
}

impl Counts {
    /// A request of the API at this place has come.
    pub fn asked(&self, place: usize, bytes: usize) {
        let Some(counts) = self.apis.get(place) else { return };
        counts.requests.fetch_add(1, Ordering::Relaxed);
        counts.request_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// It is answered, with so many error codes.
    pub fn answered(&self, place: usize, bytes: usize, errors: usize) {
        let Some(counts) = self.apis.get(place) else { return };
        counts.response_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        counts.errors.fetch_add(errors as u64, Ordering::Relaxed);
    }

    /// Writes what was counted; APIs that nobody asked for are left out.
    pub fn write(&self, metrics: &mut Metrics) {
        for (name, help, number) in BY_API {
            metrics.begin(name, "counter", help);
            for (served, counts) in SERVED.iter().zip(&self.apis) {
                if counts.requests.load(Ordering::Relaxed) > 0 {
                    let value = number(counts).load(Ordering::Relaxed) as f64;
                    metrics.value(name, &[("api", &format!("{:?}", served.api))], value);
                }
            }
        }
    }
}
