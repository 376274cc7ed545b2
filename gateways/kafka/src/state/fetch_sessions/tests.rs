//! Sessions through their four calls, and which of them go.

use super::*;

fn wanted(partition: i32, fetch_offset: i64) -> Wanted {
    Wanted {
        topic: TopicKey::Name("t".into()),
        partition,
        current_leader_epoch: -1,
        fetch_offset,
        last_fetched_epoch: -1,
        bytes_max: 100,
    }
}

fn told(end: i64, has_records: bool) -> Told {
    Told { high_watermark: end, last_stable_offset: end, log_start_offset: 0, has_records, is_error: false }
}

const FAILED: Told =
    Told { high_watermark: -1, last_stable_offset: -1, log_start_offset: -1, has_records: false, is_error: true };

fn asked(session_id: i32, epoch: i32, wanted: Vec<Wanted>) -> Asked {
    Asked { session_id, epoch, uses_ids: false, wanted, forgotten: Vec::new() }
}

/// Begins a session with partitions 0 to `count` - 1, all at offset 5; returns its id.
fn begun(sessions: &FetchSessions, count: i32, now_ms: i64) -> i32 {
    let wanted = (0..count).map(|index| wanted(index, 5)).collect();
    let fetching = sessions.begin(asked(0, INITIAL_EPOCH, wanted), now_ms).unwrap();
    let told = vec![told(5, false); count as usize];
    let finished = sessions.finish(&fetching, &told, now_ms).unwrap();
    assert_eq!(finished.sent, None);
    finished.session_id
}

/// The next fetch of a session with these answers; returns the partitions in order, and those of them that are sent.
fn go_on(sessions: &FetchSessions, asked: Asked, told: &[Told]) -> (Vec<i32>, Vec<i32>) {
    let fetching = sessions.begin(asked, 0).unwrap();
    let order: Vec<i32> = fetching.wanted.iter().map(|wanted| wanted.partition).collect();
    let sent = sessions.finish(&fetching, told, 0).unwrap().sent.unwrap();
    let sent = order.iter().zip(sent).filter(|(_, sent)| *sent).map(|(partition, _)| *partition).collect();
    (order, sent)
}

#[test]
fn only_news_is_sent() {
    let sessions = FetchSessions::new(Limits::default());
    let id = begun(&sessions, 3, 0);
    assert!(id > 0);
    let idle = [told(5, false); 3];
    assert_eq!(go_on(&sessions, asked(id, 1, vec![]), &idle), (vec![0, 1, 2], vec![]));
    // Records, and an end that moved.
    let news = [told(6, true), told(5, false), told(7, false)];
    assert_eq!(go_on(&sessions, asked(id, 2, vec![]), &news), (vec![0, 1, 2], vec![0, 2]));
    // Who had records is at the end now; the client goes on where it is.
    let news = [told(5, false), told(7, false), told(6, false)];
    assert_eq!(go_on(&sessions, asked(id, 3, vec![wanted(0, 6)]), &news), (vec![1, 2, 0], vec![]));
    let fetching = sessions.begin(asked(id, 4, vec![]), 0).unwrap();
    assert_eq!(fetching.wanted[2], wanted(0, 6));
}

#[test]
fn errors_are_told_each_time_and_their_end_too() {
    let sessions = FetchSessions::new(Limits::default());
    let id = begun(&sessions, 1, 0);
    for epoch in 1..=2 {
        assert_eq!(go_on(&sessions, asked(id, epoch, vec![]), &[FAILED]).1, [0]);
    }
    assert_eq!(go_on(&sessions, asked(id, 3, vec![]), &[told(5, false)]).1, [0]);
    assert_eq!(go_on(&sessions, asked(id, 4, vec![]), &[told(5, false)]).1, [] as [i32; 0]);
}

#[test]
fn partitions_come_and_go() {
    let sessions = FetchSessions::new(Limits::default());
    let id = begun(&sessions, 2, 0);
    let forget = |partition| Forgotten { topic: TopicKey::Name("t".into()), partition };
    let mut request = asked(id, 1, vec![wanted(7, 0)]);
    request.forgotten = vec![forget(0)];
    // A new one is told of, even if there is nothing.
    assert_eq!(go_on(&sessions, request, &[told(5, false), told(0, false)]), (vec![1, 7], vec![7]));
    // Without partitions there is no session.
    let mut request = asked(id, 2, vec![]);
    request.forgotten = vec![forget(1), forget(7)];
    let fetching = sessions.begin(request, 0).unwrap();
    assert_eq!(sessions.finish(&fetching, &[], 0), Ok(Finished { session_id: NO_SESSION, sent: None }));
    assert_eq!(sessions.count(), 0);
}

#[test]
fn what_does_not_fit_is_refused() {
    let sessions = FetchSessions::new(Limits::default());
    let id = begun(&sessions, 1, 0);
    assert_eq!(sessions.begin(asked(id, 2, vec![]), 0).unwrap_err(), SessionError::InvalidEpoch);
    assert_eq!(sessions.begin(asked(id ^ 1, 1, vec![]), 0).unwrap_err(), SessionError::NotFound);
    let by_id = Asked { uses_ids: true, ..asked(id, 1, vec![]) };
    assert_eq!(sessions.begin(by_id, 0).unwrap_err(), SessionError::TopicNaming);
    // Sent twice, or gone on with on another connection.
    let first = sessions.begin(asked(id, 1, vec![]), 0).unwrap();
    assert_eq!(sessions.begin(asked(id, 1, vec![]), 0).unwrap_err(), SessionError::InvalidEpoch);
    let _second = sessions.begin(asked(id, 2, vec![]), 0).unwrap();
    assert_eq!(sessions.finish(&first, &[told(5, false)], 0).unwrap_err(), SessionError::InvalidEpoch);
}

#[test]
fn a_full_fetch_ends_the_session() {
    let sessions = FetchSessions::new(Limits::default());
    for epoch in [FINAL_EPOCH, INITIAL_EPOCH] {
        let id = begun(&sessions, 1, 0);
        let fetching = sessions.begin(asked(id, epoch, vec![wanted(0, 5)]), 0).unwrap();
        assert_eq!(sessions.count(), 0);
        let finished = sessions.finish(&fetching, &[told(5, false)], 0).unwrap();
        assert_eq!((finished.session_id == NO_SESSION, finished.sent), (epoch == FINAL_EPOCH, None));
        assert_eq!(sessions.begin(asked(id, 1, vec![]), 0).unwrap_err(), SessionError::NotFound);
    }
    // One that fetches nothing gets none.
    assert_eq!(begun(&sessions, 0, 0), NO_SESSION);
}

#[test]
fn who_is_evicted() {
    let limits = Limits { sessions_max: 2, partitions_max: 100, eviction_ms: 10 };
    let sessions = FetchSessions::new(limits);
    let (small, large) = (begun(&sessions, 2, 0), begun(&sessions, 5, 1));
    // Both are new.
    assert_eq!(begun(&sessions, 9, 5), NO_SESSION);
    // Both are used.
    let use_them = |epoch, now_ms| {
        for id in [small, large] {
            sessions.begin(asked(id, epoch, vec![]), now_ms).unwrap();
        }
    };
    use_them(1, 20);
    // A smaller one drives out nobody, a larger one the smallest.
    assert_eq!(begun(&sessions, 1, 21), NO_SESSION);
    let third = begun(&sessions, 3, 22);
    assert_ne!(third, NO_SESSION);
    assert_eq!(sessions.begin(asked(small, 2, vec![]), 22).unwrap_err(), SessionError::NotFound);
    // Nobody used the large one for long: anybody takes its place.
    assert_ne!(begun(&sessions, 1, 31), NO_SESSION);
    assert_eq!(sessions.begin(asked(large, 2, vec![]), 31).unwrap_err(), SessionError::NotFound);
}

#[test]
fn partitions_are_bounded_over_all_sessions() {
    let limits = Limits { sessions_max: 10, partitions_max: 10, eviction_ms: 10 };
    let sessions = FetchSessions::new(limits);
    let first = begun(&sessions, 6, 0);
    assert_eq!(begun(&sessions, 5, 0), NO_SESSION);
    let second = begun(&sessions, 4, 0);
    assert_ne!(second, NO_SESSION);
    // It grows too large.
    let grown = asked(first, 1, vec![wanted(90, 0)]);
    assert_eq!(sessions.begin(grown, 0).unwrap_err(), SessionError::NotFound);
    assert_ne!(begun(&sessions, 6, 0), NO_SESSION);
}
