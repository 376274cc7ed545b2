//! The RPC between a [`RemoteCore`] and a server, over real sockets, with a core that misbehaves on demand.

mod support;

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use codec_record::Producer;
use core_rpc::client::{ConnectError, RemoteOptions};
use core_rpc::*;
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const LONG: Duration = Duration::from_secs(60);

/// Options under which what cannot succeed fails soon.
fn hasty() -> RemoteOptions {
    RemoteOptions { connection_wait_max: Duration::from_millis(200), ..RemoteOptions::default() }
}

fn end(outcome: Outcome) -> TransactionEnd {
    let mut marker = codec_record::Batch::new(codec_record::FormatId::RAW, 1, 0, Bytes::from_static(b"marker"));
    marker.header.flags = codec_record::BatchFlags(3);
    marker.header.producer = Some(codec_record::Producer { id: 7, epoch: 3, sequence: -1 });
    TransactionEnd { producer_id: 7, epoch: 3, ended_epoch_max: 2, decision: Some(9), outcome, marker }
}

#[tokio::test]
async fn every_verb_gets_its_answer_on_both_kinds_of_socket() {
    let folder = tempfile::tempdir().unwrap();
    for address in [loopback(), Address::Unix(folder.path().join("core.sock"))] {
        let served = Served::start(MemoryCore::default(), &address).await;
        let core = RemoteCore::new(served.address.to_string().parse().unwrap());
        let group = || GroupName { namespace: "n".into(), group: "g".into() };

        let appended = core.append(append(0, "one")).await;
        assert_eq!(appended, [Ok(Appended { base_offset: 0, append_time_ms: 1, start_offset: 0, duplicate: false })]);
        let fetched = core.fetch(fetch(0, 0, 1000, Duration::ZERO)).await;
        assert_eq!(fetched[0].as_ref().unwrap().batches[0].payload, "one");
        assert_eq!(fetched[0].as_ref().unwrap().aborted, [ABORTED]);
        assert_eq!(core.fetch(fetch(1, 0, 9, Duration::ZERO)).await, [Err(FetchError::UnknownPartition)]);
        let queries = vec![(partition(0), OffsetAt::Time(5)); 2];
        assert_eq!(core.offsets(OffsetsRequest { queries }).await.len(), 2);
        assert_eq!(core.trim(TrimRequest { trims: vec![(partition(0), Some(5))] }).await, [Ok(5)]);
        assert_eq!(core.inspect(vec![partition(0)]).await, [Err(FetchError::UnknownPartition)]);
        let cursor = Cursor { offset: 1, epoch: -1, metadata: "m".into(), time_ms: 0 };
        let transaction = Some(TransactionProducer { id: 1, epoch: 2 });
        let cursors = vec![(partition(0), cursor)];
        let commit = CommitRequest { group: group(), generation: Some(1), transaction, cursors };
        assert_eq!(core.commit(commit).await, [Err(CursorError::Fenced)]);
        assert_eq!(core.committed(group(), vec![partition(0)]).await, Ok(vec![Committed::default()]));
        assert_eq!(core.cursors(group()).await, Ok(vec![]));
        let ended = PartitionId { topic: TopicId(7), index: 2 };
        assert_eq!(core.transaction_end(end(Outcome::Commit)).await, Ok(vec![ended]));
        assert_eq!(core.transaction_end(end(Outcome::Abort)).await, Err(TransactionError::ProducerFenced));
        let bad = TransactionEnd { epoch: 4, ..end(Outcome::Commit) };
        assert_eq!(core.transaction_end(bad).await, Err(TransactionError::Marker));
        assert_eq!(core.transactions_open(None).await, Ok(vec![]));
        assert_eq!(core.transactions_open(Some(9)).await.unwrap()[0].producer_id, 9);
        assert_eq!(core.groups("n".into()).await, Ok(vec!["n".into()]));
        assert_eq!(core.forget(group(), None).await, Ok(()));
        let create = TopicCreate {
            namespace: "n".into(),
            name: "t".into(),
            partitions: 3,
            settings: TopicSettings::default(),
            labels: [("a".to_owned(), "b".to_owned())].into(),
        };
        let topic = core.topic_create(create.clone()).await.unwrap();
        assert_eq!((topic.id, topic.partitions, topic.labels), (TopicId(u128::MAX), 3, create.labels));
        let alter = core.topic_alter("n".into(), "t".into(), TopicAlter::default()).await;
        assert_eq!(alter, Err(TopicError::PartitionCount { max: 9 }));
        assert_eq!(core.topic_delete("n".into(), "t".into()).await, Err(TopicError::Unknown));
        assert_eq!(core.meta_get("k".into()).await.unwrap().unwrap().value, "k");
        assert_eq!(core.meta_list("k".into()).await.unwrap().revision, 8);
        let put = MetaPut { key: "k".into(), value: Bytes::new(), condition: MetaCondition::Version(4), session: None };
        assert!(matches!(core.meta_put(put).await, Err(MetaError::Conflict(Some(entry))) if entry.key == "k"));
        assert_eq!(core.meta_delete("k".into(), MetaCondition::Always).await, Ok(()));
        assert_eq!(core.session_open(Duration::from_millis(70)).await, Ok(SessionId(70)));
        assert_eq!(core.session_renew(SessionId(1)).await, Err(MetaError::UnknownSession));
        assert_eq!(core.session_close(SessionId(1)).await, Ok(()));
        served.stop().await;
    }
}

#[tokio::test]
async fn long_polls_block_nothing_and_are_cancelled_when_dropped() {
    let memory = MemoryCore::default();
    memory.append(append(0, "")).await;
    let served = Served::start(memory.clone(), &loopback()).await;
    let core = RemoteCore::new(served.address.clone());

    let polls: Vec<_> = (0..500)
        .map(|_| {
            let core = core.clone();
            tokio::spawn(async move { core.fetch(fetch(0, 1, 1000, LONG)).await })
        })
        .collect();
    until("the polls wait", || memory.fetches_waiting.load(Ordering::SeqCst) == 500).await;
    within("others are answered", core.meta_get("k".into())).await.unwrap();

    for poll in &polls[1..] {
        poll.abort();
    }
    until("dropped polls are gone", || memory.fetches_waiting.load(Ordering::SeqCst) == 1).await;

    core.append(append(0, "two")).await;
    let answer = within("the last poll", polls.into_iter().next().unwrap()).await.unwrap();
    assert_eq!(answer[0].as_ref().unwrap().batches[0].payload, "two");
    served.stop().await;
}

#[tokio::test]
async fn appends_are_kept_in_the_order_in_which_they_began() {
    let memory = MemoryCore::default();
    let served = Served::start(memory.clone(), &loopback()).await;
    let core = RemoteCore::new(served.address.clone());
    memory.held.send_replace(true);
    let mut calls = Vec::new();
    for at in 0..1000u32 {
        let mut call = Box::pin({
            let core = core.clone();
            async move { core.append(append(0, at.to_be_bytes().to_vec())).await }
        });
        // Begins the call.
        assert!(futures_poll(call.as_mut()).is_none());
        calls.push(call);
    }
    until("all are kept", || memory.logs.lock().get(&partition(0)).map_or(0, Vec::len) == 1000).await;
    memory.held.send_replace(false);
    for (at, call) in calls.into_iter().enumerate() {
        assert_eq!(within("answer", call).await[0].as_ref().unwrap().base_offset, at as u64);
    }
    let kept = memory.logs.lock()[&partition(0)].iter().map(|batch| batch.payload.clone()).collect::<Vec<_>>();
    assert!(kept.iter().enumerate().all(|(at, payload)| payload[..] == (at as u32).to_be_bytes()));
}

#[tokio::test]
async fn appends_that_wait_for_room_are_not_overtaken() {
    const BYTES: usize = 1 << 20;
    let memory = MemoryCore::default();
    let served = Served::start(memory.clone(), &loopback()).await;
    let core = RemoteCore::new(served.address.clone());
    let begin = |at: u32| {
        let core = core.clone();
        let payload = [&at.to_be_bytes()[..], &[0; BYTES]].concat();
        let mut call = Box::pin(async move { core.append(append(0, payload)).await });
        assert!(futures_poll(call.as_mut()).is_none());
        call
    };
    memory.held.send_replace(true);
    let kept = || memory.logs.lock().get(&partition(0)).map_or(0, Vec::len);
    // More than may be in flight; those that wait are not polled again until the end, as by a session that takes its
    // answers in order.
    let mut calls: Vec<_> = (0..100).map(begin).collect();
    until("as much is in flight as may be", || kept() > 50).await;
    memory.held.send_replace(false);
    within("the first answer", calls.remove(0)).await;
    calls.extend((100..200).map(begin));
    for call in calls {
        assert!(within("answer", call).await[0].is_ok());
    }
    let kept: Vec<_> = memory.logs.lock()[&partition(0)].iter().map(|batch| batch.payload.slice(..4)).collect();
    assert!(kept.iter().enumerate().all(|(at, start)| start[..] == (at as u32).to_be_bytes()));
    assert_eq!(kept.len(), 200);
}

fn futures_poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
    match future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(value) => Some(value),
        std::task::Poll::Pending => None,
    }
}

#[tokio::test]
async fn a_payload_that_changed_on_the_way_is_refused_alone() {
    let memory = MemoryCore::default();
    let served = Served::start(memory.clone(), &loopback()).await;
    let core = RemoteCore::new(served.address.clone());
    let mut request = append(0, "good");
    let mut bad = append(1, "bad").appends.remove(0);
    bad.batch.payload = Bytes::from_static(b"worse");
    bad.batch.header.payload_length = 5;
    request.appends.insert(0, bad.clone());
    request.appends.push(bad);
    let answers = core.append(request).await;
    assert_eq!(answers[0], Err(AppendError::Corrupt));
    assert_eq!(answers[1].as_ref().unwrap().base_offset, 0);
    assert_eq!(answers[2], Err(AppendError::Corrupt));
    assert_eq!(memory.logs.lock().len(), 1);
}

#[tokio::test]
async fn appends_and_reads_that_a_break_finds_in_flight_are_made_again() {
    let memory = MemoryCore::default();
    let served = Served::start(memory.clone(), &loopback()).await;
    let proxy = Proxy::start(&served.address).await;
    let core = RemoteCore::new(proxy.address.clone());
    memory.held.send_replace(true);

    let spawn_append = |request: AppendRequest| {
        let core = core.clone();
        tokio::spawn(async move { core.append(request).await.remove(0) })
    };
    let plain = spawn_append(append(0, "plain"));
    let mut sequenced = Vec::new();
    for sequence in 0..20 {
        let mut request = append(1, "sequenced");
        request.appends[0].batch.header.producer = Some(Producer { id: 9, epoch: 0, sequence });
        sequenced.push(spawn_append(request));
        until("it is kept", || memory.logs.lock().get(&partition(1)).map_or(0, Vec::len) == sequence as usize + 1)
            .await;
    }
    let poll = {
        let core = core.clone();
        tokio::spawn(async move { core.fetch(fetch(0, 1, 1000, LONG)).await })
    };
    until("the poll waits", || memory.fetches_waiting.load(Ordering::SeqCst) == 1).await;

    proxy.cut();
    until("the poll waits again", || memory.fetches_waiting.load(Ordering::SeqCst) == 1).await;
    memory.held.send_replace(false);
    let appended = within("plain", plain).await.unwrap().expect("sent again with a producer of the client's own");
    assert_eq!((appended.base_offset, appended.duplicate), (0, false));
    assert_eq!(memory.logs.lock()[&partition(0)].len(), 1, "and kept once");
    for (sequence, append) in sequenced.into_iter().enumerate() {
        let appended = within("sequenced", append).await.unwrap().expect("sent again");
        assert_eq!((appended.base_offset, appended.duplicate), (sequence as u64, true));
    }
    core.append(append(0, "next")).await;
    assert_eq!(within("poll", poll).await.unwrap()[0].as_ref().unwrap().batches[0].payload, "next");
}

#[tokio::test]
async fn a_transfer_that_a_break_finds_in_flight_is_done_once() {
    let memory = MemoryCore::default();
    let served = Served::start(memory.clone(), &loopback()).await;
    let proxy = Proxy::start(&served.address).await;
    let core = RemoteCore::new(proxy.address.clone());
    memory.held.send_replace(true);

    let request = |appends| {
        let settles = vec![(partition(1), vec![SettleRange::new(3, 4, Settlement::Accept)])];
        let group = GroupName { namespace: "n".into(), group: "g".into() };
        TransferRequest { group, holder: "h".into(), session: None, settles, appends }
    };
    let appends = [append(0, "a").appends, append(2, "b").appends].concat();
    let spawn = |request| {
        let core = core.clone();
        tokio::spawn(async move { core.transfer(request).await })
    };
    let transfer = spawn(request(appends));
    until("it is kept", || memory.logs.lock().get(&partition(2)).map_or(0, Vec::len) == 1).await;
    // Nothing in it tells whether it was done.
    let bare = spawn(request(vec![]));
    until("it is settled", || !memory.settled.lock().is_empty()).await;
    proxy.cut();
    assert_eq!(within("bare", bare).await.unwrap(), Err(TransferError::Unavailable));
    memory.held.send_replace(false);
    let appended = within("transfer", transfer).await.unwrap().expect("sent again");
    assert_eq!(appended.iter().map(|one| (one.base_offset, one.duplicate)).collect::<Vec<_>>(), [(0, false); 2]);
    assert_eq!([0, 2].map(|index| memory.logs.lock()[&partition(index)].len()), [1, 1]);
    assert_eq!(memory.settled.lock().len(), 1);
    let discard = DiscardRequest {
        group: GroupName { namespace: "n".into(), group: "g".into() },
        partition: partition(0),
        start: SeekTo::Offset(0),
        messages_max: 7,
    };
    assert_eq!(core.discard(discard).await, Ok(7));
}

#[tokio::test]
async fn a_server_that_comes_back_is_found_again() {
    let memory = MemoryCore::default();
    memory.append(append(0, "")).await;
    let served = Served::start(memory.clone(), &loopback()).await;
    let address = served.address.clone();
    let core = RemoteCore::new(address.clone());
    let poll = {
        let core = core.clone();
        tokio::spawn(async move { core.fetch(fetch(0, 1, 1000, LONG)).await })
    };
    until("the poll waits", || memory.fetches_waiting.load(Ordering::SeqCst) == 1).await;
    within("a stop waits for no long poll", served.stop()).await;

    // Asked while there is no server: waits for it.
    let asked = {
        let core = core.clone();
        tokio::spawn(async move { core.append(append(0, "new")).await.remove(0) })
    };
    let served = Served::start(memory.clone(), &address).await;
    assert_eq!(within("asked", asked).await.unwrap().unwrap().base_offset, 1);
    assert_eq!(within("poll", poll).await.unwrap()[0].as_ref().unwrap().batches.len(), 1);
    served.stop().await;
}

#[tokio::test]
async fn without_a_server_calls_become_unavailable() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let core = RemoteCore::with_options(Address::Tcp(gone.to_string()), hasty());
    within("calls end", async {
        assert_eq!(core.append(append(0, "x")).await, [Err(AppendError::Unavailable)]);
        assert_eq!(core.fetch(fetch(0, 0, 1, LONG)).await, [Err(FetchError::Unavailable)]);
        assert_eq!(core.meta_get("k".into()).await, Err(MetaError::Unavailable));
    })
    .await;
    assert!(matches!(RemoteCore::probe(core.address()).await, Err(ConnectError::Connect { .. })));
}

#[tokio::test]
async fn versions_that_do_not_meet_are_told_to_both_sides() {
    // A client from the future.
    let served = Served::start(MemoryCore::default(), &loopback()).await;
    let mut stream = TcpStream::connect(served.address.to_string()).await.unwrap();
    stream.write_all(b"PMQC\x07\x00\x09\x00").await.unwrap();
    let mut reply = Vec::new();
    within("the server hangs up", stream.read_to_end(&mut reply)).await.unwrap();
    assert_eq!(reply, b"PMQC\x00\x00\x06\x00\x06\x00");

    // A server from the future, and one that is something else.
    for (reply, expected) in [
        (&b"PMQC\x00\x00\x07\x00\x08\x00"[..], "this side speaks 6 to 6, the peer 7 to 8"),
        (&b"HTTP/1.1 400"[..], "does not speak this RPC"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap().to_string());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut hello = [0; 8];
                stream.read_exact(&mut hello).await.unwrap();
                stream.write_all(reply).await.unwrap();
            }
        });
        let error = RemoteCore::probe(&address).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        let core = RemoteCore::with_options(address, hasty());
        assert_eq!(within("fails", core.meta_get("k".into())).await, Err(MetaError::Unavailable));
    }
}

#[tokio::test]
async fn bad_bytes_end_only_their_connection() {
    let served = Served::start(MemoryCore::default(), &loopback()).await;
    let core = RemoteCore::new(served.address.clone());
    core.meta_get("before".into()).await.unwrap();
    for junk in [&[0xff; 64][..], &[0; 64], b"\x0c\0\0\0\xff\xff\xff\xff", b"GET / HTTP/1.1\r\n\r\n"] {
        let mut stream = TcpStream::connect(served.address.to_string()).await.unwrap();
        stream.write_all(b"PMQC\x06\x00\x06\x00").await.unwrap();
        let _ = stream.write_all(junk).await;
        let _ = stream.shutdown().await;
        let mut reply = Vec::new();
        let _ = within("the server hangs up", stream.read_to_end(&mut reply)).await;
        assert!(reply.len() <= 10, "no answer to junk");
    }
    core.meta_get("after".into()).await.unwrap();
}

#[tokio::test]
async fn a_reader_that_does_not_read_holds_little_and_gets_everything_at_last() {
    const BATCH_BYTES: usize = 4 << 20;
    const FETCHES: u64 = 64;
    let memory = MemoryCore::default();
    for _ in 0..FETCHES {
        memory.append(append(0, vec![1; BATCH_BYTES])).await;
    }
    let served = Served::start(memory.clone(), &loopback()).await;
    // By hand: asks for 256 MiB, one batch for each call, and reads nothing.
    let mut stream = TcpStream::connect(served.address.to_string()).await.unwrap();
    stream.write_all(b"PMQC\x06\x00\x06\x00").await.unwrap();
    for call in 0..FETCHES {
        let request = wire::message::Request::Fetch(fetch(0, call, 1000, Duration::ZERO));
        stream.write_all(wire::frame::Frame::encode(call, &request, vec![]).unwrap().head()).await.unwrap();
    }
    // Batches that wait to be sent are the only further owners of the log's payloads.
    let waiting = || {
        let logs = memory.logs.lock();
        logs[&partition(0)].iter().filter(|batch| !batch.payload.is_unique()).count()
    };
    until("answers wait", || waiting() >= 10).await;
    assert!(waiting() * BATCH_BYTES <= wire::ANSWER_BYTES_MAX + BATCH_BYTES * 2, "{} batches wait", waiting());

    let other = RemoteCore::new(served.address.clone());
    within("others are served", other.meta_get("k".into())).await.unwrap();

    let mut handshake = [0; 10];
    stream.read_exact(&mut handshake).await.unwrap();
    let mut seen = vec![false; FETCHES as usize];
    for _ in 0..FETCHES {
        let length = within("a frame", stream.read_u32_le()).await.unwrap();
        let mut frame = vec![0; length as usize + 4];
        frame[..4].copy_from_slice(&length.to_le_bytes());
        within("its rest", stream.read_exact(&mut frame[4..])).await.unwrap();
        let received = wire::frame::decode::<wire::message::Answer>(frame.into()).unwrap();
        assert_eq!(received.batches[0].header.base_offset, received.call);
        seen[received.call as usize] = true;
    }
    assert!(seen.into_iter().all(|seen| seen));
}

#[tokio::test]
async fn large_appends_go_through_and_too_large_ones_are_refused() {
    let memory = MemoryCore::default();
    let served = Served::start(memory.clone(), &loopback()).await;
    let core = RemoteCore::new(served.address.clone());
    let large = Bytes::from(vec![7; 90 << 20]);
    let mut request = append(0, large.clone());
    request.appends.extend(append(1, vec![0; BATCH_BYTES_MAX as usize + 1]).appends);
    request.appends.extend(append(0, large).appends);
    let answers = core.append(request).await;
    assert_eq!(answers[0].as_ref().unwrap().base_offset, 0);
    assert_eq!(answers[1], Err(AppendError::TooLarge { bytes_max: BATCH_BYTES_MAX }));
    assert_eq!(answers[2].as_ref().unwrap().base_offset, 1);
}

/// Forwards bytes to a server until it is cut.
struct Proxy {
    address: Address,
    cut: tokio::sync::broadcast::Sender<()>,
}

impl Proxy {
    async fn start(target: &Address) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap().to_string());
        let target = target.to_string();
        let cut = tokio::sync::broadcast::channel(1).0;
        let sender = cut.clone();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut far = TcpStream::connect(&target).await.unwrap();
                let mut cut = sender.subscribe();
                tokio::spawn(async move {
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = cut.recv() => {}
                    }
                });
            }
        });
        Proxy { address, cut }
    }

    /// Breaks the connections there are.
    fn cut(&self) {
        self.cut.send(()).expect("a connection to cut");
    }
}
