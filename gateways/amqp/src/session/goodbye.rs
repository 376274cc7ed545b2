//! How a connection ends.

use std::time::Duration;

use codec_amqp::frame::{FrameKind, split};
use codec_amqp::{Method, ShortStr, connection};

use super::SessionError;
use super::wire::Wire;
use crate::errors::Refusal;

/// How long a peer may take to answer a goodbye.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// How long a peer that was told the last word may take to close.
const LINGER_MAX: Duration = Duration::from_secs(2);

/// Sends what waits, and then waits a little for the peer to close: a socket that is closed while something unread is in
/// it resets the connection, and the peer might not see the last word.
pub(super) async fn linger(wire: &mut Wire) -> Result<(), SessionError> {
    let farewell = async {
        wire.send().await?;
        wire.shut_down().await;
        while wire.discard().await? > 0 {}
        Ok::<(), std::io::Error>(())
    };
    // The last word was said, whatever becomes of it.
    let _ = tokio::time::timeout(LINGER_MAX, farewell).await;
    Ok(())
}

/// Tells the peer that the connection ends, and why; waits for its answer, and takes nothing else from it.
/// `at`: class and method of what was wrong.
pub(super) async fn close(
    wire: &mut Wire,
    refusal: &Refusal,
    at: (u16, u16),
    frame_bytes_max: usize,
) -> Result<(), SessionError> {
    let close = connection::Close {
        reply_code: refusal.code.code(),
        reply_text: ShortStr::truncated(&refusal.text()),
        class_id: at.0,
        method_id: at.1,
    };
    wire.out.put_method(0, &close.into());
    let answered = async {
        wire.send().await?;
        // Frames can be told apart no more after some errors: then whatever comes is thrown away until the end.
        while let Ok(framed) = split(&mut wire.input, frame_bytes_max) {
            match framed {
                Some(frame) if frame.channel == 0 && frame.kind == FrameKind::Method => {
                    match Method::decode(&frame.payload) {
                        Ok(Method::ConnectionCloseOk(_)) => return Ok(()),
                        // Both say goodbye at once.
                        Ok(Method::ConnectionClose(_)) => {
                            wire.out.put_method(0, &connection::CloseOk {}.into());
                            wire.send().await?;
                        }
                        _ => {}
                    }
                }
                Some(_) => {}
                None if wire.receive().await? => {}
                None => return Ok(()),
            }
        }
        while wire.discard().await? > 0 {}
        Ok::<(), std::io::Error>(())
    };
    let _ = tokio::time::timeout(ANSWER_MAX, answered).await;
    linger(wire).await
}
