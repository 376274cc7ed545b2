// paho.golang's autopaho: a connection that comes back by itself, with a queue of what is to be published.
package main

import (
	"context"
	"fmt"
	"net/url"
	"sort"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/autopaho/extensions/rpc"
	"github.com/eclipse/paho.golang/autopaho/queue/memory"
	"github.com/eclipse/paho.golang/paho"
)

// managed is a connection whose session stays. `subscribe`: on each connection.
func managed(ctx context.Context, id string, subscribe []paho.SubscribeOptions, config autopaho.ClientConfig) (*autopaho.ConnectionManager, error) {
	server, err := url.Parse("mqtt://" + deal())
	if err != nil {
		return nil, err
	}
	config.ServerUrls = []*url.URL{server}
	config.KeepAlive = 20
	config.SessionExpiryInterval = 600
	config.ReconnectBackoff = autopaho.NewConstantBackoff(20 * time.Millisecond)
	config.ClientConfig.ClientID = id
	ready := make(chan error, 100)
	config.OnConnectionUp = func(manager *autopaho.ConnectionManager, _ *paho.Connack) {
		if len(subscribe) == 0 {
			ready <- nil
			return
		}
		go func() {
			_, err := manager.Subscribe(ctx, &paho.Subscribe{Subscriptions: subscribe})
			ready <- err
		}()
	}
	manager, err := autopaho.NewConnection(ctx, config)
	if err != nil {
		return nil, err
	}
	select {
	case err = <-ready:
		return manager, err
	case <-ctx.Done():
		return nil, fmt.Errorf("no connection within %s", patience)
	}
}

func autoQueue(topic string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	in := &inbox{}
	taking := autopaho.ClientConfig{ClientConfig: paho.ClientConfig{OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(received paho.PublishReceived) (bool, error) {
		in.add(string(received.Packet.Payload))
		return true, nil
	}}}}
	if _, err := managed(ctx, topic+"-taker", []paho.SubscribeOptions{{Topic: topic, QoS: 2}}, taking); err != nil {
		return err
	}
	giver, err := managed(ctx, topic+"-giver", nil, autopaho.ClientConfig{Queue: memory.New()})
	if err != nil {
		return err
	}
	for number, text := range numbers(300) {
		if number%100 == 50 {
			giver.TerminateConnectionForTest()
		}
		if err := giver.PublishViaQueue(ctx, &autopaho.QueuePublish{Publish: &paho.Publish{Topic: topic, QoS: 2, Payload: []byte(text)}}); err != nil {
			return err
		}
	}
	got, err := in.wait(300)
	if err != nil {
		return err
	}
	sort.Slice(got, func(a, b int) bool { return len(got[a]) < len(got[b]) || len(got[a]) == len(got[b]) && got[a] < got[b] })
	return same(numbers(300), got)
}

func autoRequestResponse(topic string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	answering := autopaho.ClientConfig{ClientConfig: paho.ClientConfig{OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(received paho.PublishReceived) (bool, error) {
		asked := received.Packet
		answer := &paho.Publish{Topic: asked.Properties.ResponseTopic, QoS: 1, Payload: append([]byte("re: "), asked.Payload...), Properties: &paho.PublishProperties{CorrelationData: asked.Properties.CorrelationData}}
		// Its answer's acknowledgement is read by whoever calls this.
		go received.Client.Publish(ctx, answer)
		return true, nil
	}}}}
	if _, err := managed(ctx, topic+"-server", []paho.SubscribeOptions{{Topic: topic + "/ask", QoS: 1}}, answering); err != nil {
		return err
	}
	router := paho.NewStandardRouter()
	asking := autopaho.ClientConfig{ClientConfig: paho.ClientConfig{OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(received paho.PublishReceived) (bool, error) {
		router.Route(received.Packet.Packet())
		return true, nil
	}}}}
	client, err := managed(ctx, topic+"-client", nil, asking)
	if err != nil {
		return err
	}
	handler, err := rpc.NewHandler(ctx, rpc.HandlerOpts{Conn: client, Router: router, ResponseTopicFmt: topic + "/answers/%s", ClientID: "client"})
	if err != nil {
		return err
	}
	for _, text := range numbers(20) {
		answer, err := handler.Request(ctx, &paho.Publish{Topic: topic + "/ask", QoS: 1, Payload: []byte(text)})
		if err != nil {
			return err
		}
		if err := same([]string{"re: " + text}, []string{string(answer.Payload)}); err != nil {
			return err
		}
	}
	return nil
}
