package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// fetchSession is a fetch session (KIP-227) that is driven request by request: a whole client drops what it did not ask for,
// so that it cannot tell what a broker remembers.
type fetchSession struct {
	k      *kit
	broker *kgo.Broker
	topic  string
	id     [16]byte
	number int32
	epoch  int32
}

// ask sends the session's next request, which names partitions with the offsets to read them from and others to be forgotten;
// returns the records that came, counted by partition.
func (s *fetchSession) ask(wanted map[int32]int64, forgotten ...int32) map[int32]int {
	request := kmsg.NewPtrFetchRequest()
	request.MaxWaitMillis, request.MinBytes, request.MaxBytes = 500, 1, 1<<20
	request.SessionID, request.SessionEpoch = s.number, s.epoch
	topic := kmsg.NewFetchRequestTopic()
	topic.Topic, topic.TopicID = s.topic, s.id
	for index, offset := range wanted {
		partition := kmsg.NewFetchRequestTopicPartition()
		partition.Partition, partition.FetchOffset, partition.PartitionMaxBytes = index, offset, 1<<20
		topic.Partitions = append(topic.Partitions, partition)
	}
	if len(wanted) > 0 {
		request.Topics = append(request.Topics, topic)
	}
	if len(forgotten) > 0 {
		request.ForgottenTopics = []kmsg.FetchRequestForgottenTopic{{Topic: s.topic, TopicID: s.id, Partitions: forgotten}}
	}
	told, err := s.broker.Request(s.k.ctx, request)
	must(err, "a fetch")
	answer := told.(*kmsg.FetchResponse)
	must(kerr.ErrorForCode(answer.ErrorCode), "a fetch")
	s.number, s.epoch = answer.SessionID, s.epoch+1
	records := map[int32]int{}
	for _, topic := range answer.Topics {
		for _, partition := range topic.Partitions {
			must(kerr.ErrorForCode(partition.ErrorCode), "a fetched partition")
			// Each batch here has one record.
			for at := 0; at+12 <= len(partition.RecordBatches); records[partition.Partition]++ {
				at += 12 + int(binary.BigEndian.Uint32(partition.RecordBatches[at+8:]))
			}
		}
	}
	return records
}

// fetchSessionForgets: a partition that a client does not want any more does not come again, until it is wanted again.
func fetchSessionForgets(k *kit) {
	topic := k.topic(4, nil)
	details, err := k.admin().ListTopics(k.ctx, topic)
	must(err, "the topic's id")
	// A session is with one broker: two partitions that it leads.
	led := map[int32][]int32{}
	for _, partition := range details[topic].Partitions.Sorted() {
		led[partition.Leader] = append(led[partition.Leader], partition.Partition)
	}
	var leader, kept, left int32
	for id, partitions := range led {
		if len(partitions) > 1 {
			leader, kept, left = id, partitions[0], partitions[1]
		}
	}
	client := k.client()
	session := &fetchSession{k: k, broker: client.Broker(int(leader)), topic: topic, id: [16]byte(details[topic].ID)}
	type offsets = map[int32]int64
	expect := func(wanted map[int32]int, got map[int32]int, what string) {
		same(fmt.Sprint(wanted), fmt.Sprint(got), what)
	}
	expect(map[int32]int{}, session.ask(offsets{kept: 0, left: 0}), "what comes at first")
	check(session.number != 0, "there is no session")
	write := func() {
		for _, partition := range []int32{kept, left} {
			k.send(client, &kgo.Record{Topic: topic, Partition: partition, Value: []byte("v")})
		}
	}
	write()
	expect(map[int32]int{kept: 1, left: 1}, session.ask(nil), "what comes while both are wanted")
	expect(map[int32]int{kept: 1}, session.ask(offsets{kept: 0}, left), "what comes in answer to the request that wants one no more")
	write()
	expect(map[int32]int{kept: 1}, session.ask(offsets{kept: 1}), "what comes after it")
	expect(map[int32]int{kept: 1, left: 2}, session.ask(offsets{kept: 1, left: 0}), "what comes when both are wanted again")
}

// apiVersionsNewer: a client that is newer than the broker is told, in the oldest version, which one of ApiVersions it may use.
func apiVersionsNewer(k *kit) {
	connection, err := net.DialTimeout("tcp", strings.Split(k.bootstrap, ",")[0], deadline)
	must(err, "connecting")
	defer connection.Close()
	must(connection.SetDeadline(time.Now().Add(deadline)), "a deadline")
	asked := kmsg.NewPtrApiVersionsRequest()
	asked.SetVersion(3)
	asked.ClientSoftwareName, asked.ClientSoftwareVersion = "from-the-future", "99"
	ask := func(version int16) (answer kmsg.ApiVersionsResponse) {
		// Key, version, correlation, client id, no tags.
		header := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, 18), uint16(version))
		header = append(binary.BigEndian.AppendUint32(header, 7), 0, 1, 'c', 0)
		frame := asked.AppendTo(header)
		_, err := connection.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...))
		must(err, "asking")
		var length [4]byte
		_, err = io.ReadFull(connection, length[:])
		must(err, "the answer to version "+fmt.Sprint(version))
		frame = make([]byte, binary.BigEndian.Uint32(length[:]))
		_, err = io.ReadFull(connection, frame)
		must(err, "the answer")
		same(uint32(7), binary.BigEndian.Uint32(frame), "correlation")
		// Refused in version 0, else in the version asked for; the header is the old one in any.
		if code := int16(binary.BigEndian.Uint16(frame[4:])); code == 0 {
			answer.SetVersion(3)
		}
		must(answer.ReadFrom(frame[4:]), "reading the answer")
		return answer
	}
	refused := ask(99)
	fails(kerr.UnsupportedVersion, kerr.ErrorForCode(refused.ErrorCode), "the version of the future")
	at := slices.IndexFunc(refused.ApiKeys, func(api kmsg.ApiVersionsResponseApiKey) bool { return api.ApiKey == 18 })
	check(at >= 0 && refused.ApiKeys[at].MaxVersion >= 3, "it does not say which version may be asked for: %v", refused.ApiKeys)
	taken := ask(3)
	must(kerr.ErrorForCode(taken.ErrorCode), "the same connection, in version 3")
	check(len(taken.ApiKeys) > 30, "%d requests are served", len(taken.ApiKeys))
}

// apiVersionsHold: the least and the greatest version of each request that the broker promises are answered, if only to say what is
// wrong with a request in which nothing is filled in.
func apiVersionsHold(k *kit) {
	promised, err := kmsg.NewPtrApiVersionsRequest().RequestWith(k.ctx, k.client())
	must(err, "what is promised")
	var unanswered []string
	for _, api := range promised.ApiKeys {
		name := kmsg.NameForKey(api.ApiKey)
		request := kmsg.RequestForKey(api.ApiKey)
		check(request != nil && request.MaxVersion() >= api.MaxVersion, "%s is promised up to version %d, which nobody knows", name, api.MaxVersion)
		versions := []int16{api.MinVersion, api.MaxVersion}
		switch request := request.(type) {
		case *kmsg.ProduceRequest:
			// Versions from 0 are promised only lest old clients do not compress (KAFKA-18659). Else it is not answered at all.
			versions, request.Acks = versions[1:], -1
		case *kmsg.AddPartitionsToTxnRequest:
			// From version 4 on it is the brokers' own, and Kafka does not answer one without transactions.
			versions[1] = 3
		case *kmsg.DescribeACLsRequest:
			// Kafka closes the connection of who asks for no kind of thing.
			request.ResourceType, request.ResourcePatternType, request.Operation, request.PermissionType = 1, 1, 1, 1
		case *kmsg.UnregisterBrokerRequest, *kmsg.AddRaftVoterRequest, *kmsg.RemoveRaftVoterRequest, *kmsg.UpdateRaftVoterRequest:
			continue
		}
		for _, version := range versions {
			request.SetVersion(version)
			if err := answered(k, request); err != nil {
				unanswered = append(unanswered, fmt.Sprintf("%s, version %d: %v", name, version, err))
			}
		}
	}
	same("", strings.Join(unanswered, "; "), "what is promised and not answered")
}

// answered sends a request over a connection of its own and waits for its answer.
func answered(k *kit, request kmsg.Request) error {
	connection, err := net.DialTimeout("tcp", strings.Split(k.bootstrap, ",")[0], deadline)
	if err != nil {
		return err
	}
	defer connection.Close()
	must(connection.SetDeadline(time.Now().Add(10*time.Second)), "a deadline")
	if _, err = connection.Write(kmsg.NewRequestFormatter(kmsg.FormatterClientID("raw")).AppendRequest(nil, request, 7)); err != nil {
		return err
	}
	var head [8]byte
	_, err = io.ReadFull(connection, head[:])
	return err
}
