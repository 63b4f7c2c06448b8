package local

import (
	"context"
	"crypto/tls"
	"log"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sfn"

	"github.com/lipdrop/lipdrop/internal/local/access"
	"github.com/lipdrop/lipdrop/internal/local/awsjson"
	"github.com/lipdrop/lipdrop/internal/local/queue"
	"github.com/lipdrop/lipdrop/internal/local/states"
	"github.com/lipdrop/lipdrop/internal/runcomfy/runcomfytest"
)

// serve serves S3, Step Functions, Secrets Manager, SQS, EventBridge and RunComfy on each
// listener.
func (s *Stack) serve(listeners []net.Listener) error {
	s.fake = &runcomfytest.Server{
		Token: s.keys.Token, Queue: s.options.QueueTime, Run: s.options.RunTime,
		HTTPClient: s.client, Dir: s.path("runcomfy"), OutputURL: "/" + s.keys.Outputs,
	}
	if err := s.fake.Load(); err != nil {
		return err
	}
	output, err := s.openLog("servers")
	if err != nil {
		return err
	}
	s.serveOn(&http.Server{
		Handler: s.hosts.Handler(s.handler()), ErrorLog: log.New(output, "", log.LstdFlags),
		ReadHeaderTimeout: time.Minute, MaxHeaderBytes: 64 << 10,
	}, listeners...)
	return nil
}

// requestsGrace is how long requests under way may take when a stack is closed. An event that
// versitygw is sending to Stack.webhook must still get into a queue.
const requestsGrace = 2 * time.Second

// serveOn runs a server on its listeners until the stack is closed.
func (s *Stack) serveOn(server *http.Server, listeners ...net.Listener) {
	var running sync.WaitGroup
	for _, listener := range listeners {
		running.Go(func() { _ = server.Serve(listener) })
	}
	s.onClose(func() {
		ctx, cancel := context.WithTimeout(context.Background(), requestsGrace)
		defer cancel()
		_ = server.Shutdown(ctx)
		_ = server.Close()
		running.Wait()
	})
}

// handler serves RunComfy's API below /v1/ and /prod/, RunComfy's outputs, and all AWS services
// except S3. It passes every other request to S3. The outputs need no token, so they are served
// only below a secret path.
func (s *Stack) handler() http.Handler {
	operations, outputs := s.serveAWS(), http.StripPrefix("/"+s.keys.Outputs, s.fake)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		first, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		switch {
		case r.Header.Get("X-Amz-Target") != "":
			operations.ServeHTTP(w, r)
		case first == "v1" || first == "prod":
			s.fake.ServeHTTP(w, r)
		case first == s.keys.Outputs:
			outputs.ServeHTTP(w, r)
		default:
			s.gateway.ServeHTTP(w, r)
		}
	})
}

// serveAWS serves the AWS services except S3. It checks the signature of each request. If a function
// sent the request, serveAWS also checks whether the role of the function allows the request.
func (s *Stack) serveAWS() http.Handler {
	keys := maps.Clone(s.keys.Functions)
	keys[AccessKey] = s.keys.SecretKey
	signatures := &access.Signatures{Keys: keys, Region: Region, Now: time.Now}
	services := awsjson.Join(s.states.Operations(), awsjson.Secret(s.keys.Token), s.dropQueue.Operations(queuePath), s.bus().Operations())
	return services.Handler(signatures.Check, access.Guard(s.roles, s.deny))
}

// newClient returns a client that trusts only the certificate of the stack.
func (s *Stack) newClient() *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	transport.TLSClientConfig = &tls.Config{RootCAs: s.cert.Pool}
	dialContainerHost(transport)
	s.onClose(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func (s *Stack) awsConfig() aws.Config {
	return aws.Config{
		Region:       Region,
		BaseEndpoint: &s.TLS,
		Credentials:  credentials.NewStaticCredentialsProvider(AccessKey, s.keys.SecretKey, ""),
		HTTPClient:   s.client,
	}
}

// Keys returns the keys of this stack.
func (s *Stack) Keys() Keys { return s.keys }

// S3 returns a client of the S3 server.
func (s *Stack) S3() *s3.Client { return s3.NewFromConfig(s.awsConfig()) }

// StepFunctions returns a client of the Step Functions endpoint.
func (s *Stack) StepFunctions() *sfn.Client { return sfn.NewFromConfig(s.awsConfig()) }

// States returns the Step Functions endpoint.
func (s *Stack) States() *states.Server { return s.states }

// Fake returns the fake RunComfy.
func (s *Stack) Fake() *runcomfytest.Server { return s.fake }

// CAFile returns the path of the PEM file of the certificate, which clients must trust.
func (s *Stack) CAFile() string { return s.cert.CertFile }

// DeadLetters returns the events that submit could not finish, and the deletions that cancel
// could not finish.
func (s *Stack) DeadLetters() []queue.Message {
	return append(s.dropQueue.DeadLetters(), s.deletionQueue.DeadLetters()...)
}

// Pending returns the number of events that submit has not finished, without the dead letters.
func (s *Stack) Pending() int { return s.dropQueue.Len() }
