package queue

import (
	"crypto/md5" //nolint:gosec // the protocol of SQS has it as a checksum
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// maxMessage is the size of the longest message that SQS accepts, in bytes.
	maxMessage = 256 << 10

	// maxRequest bounds a request. Each byte of its message may be escaped.
	maxRequest = 6*maxMessage + 64<<10

	// maxDelay is the longest delay of a message.
	maxDelay = 15 * time.Minute
)

// Server serves SendMessage, the only operation of SQS that a function calls. It does
// not check signatures: see package access.
type Server struct {
	Queue *Queue
	// Path is the path of the queue's URL.
	Path string
}

// ServeHTTP serves the SQS API in AWS JSON 1.0. It refuses unknown members of a
// request.
// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	refuse := func(status int, code string, err error) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]string{"__type": "com.amazonaws.sqs#" + code, "message": err.Error()})
	}
	if r.Header.Get("X-Amz-Target") != "AmazonSQS.SendMessage" {
		refuse(http.StatusBadRequest, "UnsupportedOperation", errors.New("the local stack serves only SendMessage"))
		return
	}
	var request struct {
		QueueURL     string `json:"QueueUrl"`
		MessageBody  string
		DelaySeconds *int
	}
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&request); err != nil {
		refuse(http.StatusBadRequest, "InvalidParameterValue", err)
		return
	}
	delay := s.Queue.cfg.Delay
	if request.DelaySeconds != nil {
		delay = time.Duration(*request.DelaySeconds) * time.Second
	}
	switch size := len(request.MessageBody); {
	case !strings.HasSuffix(request.QueueURL, s.Path):
		refuse(http.StatusBadRequest, "QueueDoesNotExist", errors.New("The specified queue does not exist."))
		return
	case size == 0 || size > maxMessage || !utf8.ValidString(request.MessageBody):
		refuse(http.StatusBadRequest, "InvalidParameterValue", fmt.Errorf("the message has %d bytes; SQS accepts 1 to %d", size, maxMessage))
		return
	case delay < 0 || delay > maxDelay:
		refuse(http.StatusBadRequest, "InvalidParameterValue", fmt.Errorf("a delay of %s; SQS accepts at most %s", delay, maxDelay))
		return
	}
	id, err := s.Queue.send(request.MessageBody, delay)
	if err != nil {
		slog.Error("message not kept", "err", err)
		refuse(http.StatusInternalServerError, "InternalFailure", err)
		return
	}
	sum := md5.Sum([]byte(request.MessageBody)) //nolint:gosec // see the import
	_ = json.NewEncoder(w).Encode(map[string]string{"MessageId": id, "MD5OfMessageBody": hex.EncodeToString(sum[:])})
}
