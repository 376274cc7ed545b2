package main

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// epochMember is a member of the consumer protocol (KIP-848) that is driven request by request: a whole client would never
// commit with an epoch that it knows to be over.
type epochMember struct {
	k      *kit
	client *kgo.Client
	group  string
	topic  string
	id     string
	epoch  int32
	topics []kmsg.ConsumerGroupHeartbeatRequestTopic
}

// heartbeat tells what the member has, and takes over what it is told to have.
func (m *epochMember) heartbeat(epoch int32) error {
	request := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	request.Group, request.MemberID, request.MemberEpoch = m.group, m.id, epoch
	request.RebalanceTimeoutMillis, request.SubscribedTopicNames, request.Topics = 30_000, []string{m.topic}, m.topics
	answer, err := request.RequestWith(m.k.ctx, m.client)
	if err != nil {
		return err
	}
	if err := kerr.ErrorForCode(answer.ErrorCode); err != nil || epoch < 0 {
		return err
	}
	m.epoch = answer.MemberEpoch
	if answer.Assignment != nil {
		m.topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		for _, topic := range answer.Assignment.Topics {
			m.topics = append(m.topics, kmsg.ConsumerGroupHeartbeatRequestTopic{TopicID: topic.TopicID, Partitions: topic.Partitions})
		}
	}
	return nil
}

// ready does what needs a coordinator. A broker's first one takes its time.
func ready(what string, try func() error) {
	until(what, func() bool {
		err := try()
		if err != nil && kerr.IsRetriable(err) {
			return false
		}
		must(err, what)
		return true
	})
}

func (m *epochMember) has() (partitions []int32) {
	for _, topic := range m.topics {
		partitions = append(partitions, topic.Partitions...)
	}
	slices.Sort(partitions)
	return partitions
}

// joinByHand makes a member and waits until it has as many partitions; the others' heartbeats go on.
func joinByHand(k *kit, client *kgo.Client, group, topic string, wanted int, others ...*epochMember) *epochMember {
	m := &epochMember{k: k, client: client, group: group, topic: topic, id: unique("member"), topics: []kmsg.ConsumerGroupHeartbeatRequestTopic{}}
	ready("joining", func() error { return m.heartbeat(0) })
	until("the member has its partitions", func() bool {
		for _, member := range append(others, m) {
			must(member.heartbeat(member.epoch), "a heartbeat")
		}
		return len(m.has()) == wanted
	})
	return m
}

// commit says in the member's name how far the group has read.
func (m *epochMember) commit(id [16]byte, epoch int32, offset int64) error {
	request := kmsg.NewPtrOffsetCommitRequest()
	request.Group, request.MemberID, request.Generation = m.group, m.id, epoch
	request.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: m.topic, TopicID: id,
		Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Partition: 0, Offset: offset, LeaderEpoch: -1}}}}
	answer, err := request.RequestWith(m.k.ctx, m.client)
	must(err, "a commit")
	return kerr.ErrorForCode(answer.Topics[0].Partitions[0].ErrorCode)
}

// committed asks in the member's name how far the group has read.
func (m *epochMember) committed(id [16]byte, epoch int32) (int64, error) {
	request := kmsg.NewPtrOffsetFetchRequest()
	request.RequireStable = true
	request.Groups = []kmsg.OffsetFetchRequestGroup{{Group: m.group, MemberID: &m.id, MemberEpoch: epoch,
		Topics: []kmsg.OffsetFetchRequestGroupTopic{{Topic: m.topic, TopicID: id, Partitions: []int32{0}}}}}
	answer, err := request.RequestWith(m.k.ctx, m.client)
	must(err, "asking for commits")
	if err := kerr.ErrorForCode(answer.Groups[0].ErrorCode); err != nil {
		return 0, err
	}
	partition := answer.Groups[0].Topics[0].Partitions[0]
	return partition.Offset, kerr.ErrorForCode(partition.ErrorCode)
}

// commitInTransaction does what `commit` does, as part of a transaction that it commits if that is taken.
func (m *epochMember) commitInTransaction(id [16]byte, epoch int32, offset int64) error {
	name := unique("transaction")
	begin := kmsg.NewPtrInitProducerIDRequest()
	begin.TransactionalID, begin.TransactionTimeoutMillis = &name, 30_000
	var producer *kmsg.InitProducerIDResponse
	ready("a producer id", func() (err error) {
		if producer, err = begin.RequestWith(m.k.ctx, m.client); err != nil {
			return err
		}
		return kerr.ErrorForCode(producer.ErrorCode)
	})

	request := kmsg.NewPtrTxnOffsetCommitRequest()
	request.TransactionalID, request.ProducerID, request.ProducerEpoch = name, producer.ProducerID, producer.ProducerEpoch
	request.Group, request.MemberID, request.Generation = m.group, m.id, epoch
	request.Topics = []kmsg.TxnOffsetCommitRequestTopic{{Topic: m.topic, TopicID: id,
		Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{{Partition: 0, Offset: offset, LeaderEpoch: -1}}}}
	answer, err := request.RequestWith(m.k.ctx, m.client)
	must(err, "a commit in a transaction")
	refused := kerr.ErrorForCode(answer.Topics[0].Partitions[0].ErrorCode)

	end := kmsg.NewPtrEndTxnRequest()
	end.TransactionalID, end.ProducerID, end.ProducerEpoch, end.Commit = name, producer.ProducerID, producer.ProducerEpoch, refused == nil
	ended, err := end.RequestWith(m.k.ctx, m.client)
	must(err, "ending a transaction")
	must(kerr.ErrorForCode(ended.ErrorCode), "ending a transaction")
	return refused
}

// consumerEpochs: a member that has not heard of its group's changes may neither commit nor read commits, nor go on.
func consumerEpochs(k *kit) {
	topic, group, client := k.topic(2, nil), unique("group"), k.client()
	details, err := k.admin().ListTopics(k.ctx, topic)
	must(err, "the topic's id")
	id := [16]byte(details[topic].ID)
	k.send(k.client(), values(topic, 0, "v", 10)...)

	one := joinByHand(k, client, group, topic, 2)
	before := one.epoch
	must(one.commit(id, before, 3), "a commit with the member's epoch")
	other := joinByHand(k, client, group, topic, 1, one)
	same(1, len(one.has()), "partitions left to the first member")
	check(one.epoch > before, "the epoch went from %d to %d", before, one.epoch)

	fails(kerr.StaleMemberEpoch, one.commit(id, before, 7), "a commit with an epoch that is over")
	fails(kerr.StaleMemberEpoch, one.commit(id, one.epoch+1, 7), "a commit with an epoch to come")
	fails(kerr.IllegalGeneration, one.commitInTransaction(id, before, 7), "the same in a transaction")
	_, err = one.committed(id, before)
	fails(kerr.StaleMemberEpoch, err, "asking for commits with an epoch that is over")
	stranger := &epochMember{k: k, client: client, group: group, topic: topic, id: unique("stranger")}
	fails(kerr.UnknownMemberID, stranger.commit(id, one.epoch, 7), "a stranger's commit")
	_, err = stranger.committed(id, one.epoch)
	fails(kerr.UnknownMemberID, err, "a stranger's asking")
	offset, err := one.committed(id, one.epoch)
	must(err, "asking for commits")
	same(int64(3), offset, "what is committed, after what was refused")

	must(one.commit(id, one.epoch, 4), "a commit with the epoch of now")
	must(one.commitInTransaction(id, one.epoch, 5), "the same in a transaction")
	until("the transaction's commit is there", func() bool {
		offset, err := one.committed(id, one.epoch)
		return err == nil && offset == 5
	})
	fails(kerr.FencedMemberEpoch, one.heartbeat(one.epoch+1), "a heartbeat with an epoch to come")
	must(one.heartbeat(-1), "leaving")
	must(other.heartbeat(-1), "leaving")
}
