//! Class confirm (85), RabbitMQ's: publishes are confirmed.

use super::schema::method;

method! {
    Select = 85, 10, "confirm.select" { no_wait: bool }
}

method! {
    SelectOk = 85, 11, "confirm.select-ok" {}
}
