package queue

import (
	"crypto/md5" // SQS has it as a checksum
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

// maxVisibility is the longest time for which a message can be hidden.
const maxVisibility = 12 * time.Hour

// Server serves the operations of SQS that a function calls: SendMessage and
// ChangeMessageVisibility. It does not check signatures: see package access.
type Server struct {
	Queue *Queue
	// Path is the path of the queue's URL.
	Path string
}

// apiError is an error of the SQS API.
type apiError struct {
	code, message string
}

func (e *apiError) Error() string { return e.message }

func invalid(format string, args ...any) error {
	return &apiError{"InvalidParameterValue", fmt.Sprintf(format, args...)}
}

// ServeHTTP serves the SQS API in AWS JSON 1.0. It refuses unknown members of a
// request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	var response any
	var err error
	switch r.Header.Get("X-Amz-Target") {
	case "AmazonSQS.SendMessage":
		response, err = s.sendMessage(w, r)
	case "AmazonSQS.ChangeMessageVisibility":
		response, err = struct{}{}, s.changeVisibility(w, r)
	default:
		err = &apiError{"UnsupportedOperation", "the local stack serves only SendMessage and ChangeMessageVisibility"}
	}
	if refused, ok := errors.AsType[*apiError](err); ok {
		w.WriteHeader(http.StatusBadRequest)
		response = map[string]string{"__type": "com.amazonaws.sqs#" + refused.code, "message": refused.message}
	} else if err != nil {
		slog.Error("message not kept", "err", err)
		w.WriteHeader(http.StatusInternalServerError)
		response = map[string]string{"__type": "com.amazonaws.sqs#InternalFailure", "message": err.Error()}
	}
	_ = json.NewEncoder(w).Encode(response)
}

// decode reads a request, which must name the queue by its URL.
func (s *Server) decode(w http.ResponseWriter, r *http.Request, request any, url *string) error {
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(request); err != nil {
		return invalid("%v", err)
	}
	if !strings.HasSuffix(*url, s.Path) {
		return &apiError{"QueueDoesNotExist", "The specified queue does not exist."}
	}
	return nil
}

// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
func (s *Server) sendMessage(w http.ResponseWriter, r *http.Request) (any, error) {
	var request struct {
		QueueURL     string `json:"QueueUrl"`
		MessageBody  string
		DelaySeconds *int
	}
	if err := s.decode(w, r, &request, &request.QueueURL); err != nil {
		return nil, err
	}
	delay := s.Queue.cfg.Delay
	if request.DelaySeconds != nil {
		delay = time.Duration(*request.DelaySeconds) * time.Second
	}
	if size := len(request.MessageBody); size == 0 || size > maxMessage || !utf8.ValidString(request.MessageBody) {
		return nil, invalid("the message has %d bytes; SQS accepts 1 to %d", size, maxMessage)
	}
	if delay < 0 || delay > maxDelay {
		return nil, invalid("a delay of %s; SQS accepts at most %s", delay, maxDelay)
	}
	id, err := s.Queue.send(request.MessageBody, delay)
	sum := md5.Sum([]byte(request.MessageBody))
	return map[string]string{"MessageId": id, "MD5OfMessageBody": hex.EncodeToString(sum[:])}, err
}

// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ChangeMessageVisibility.html
func (s *Server) changeVisibility(w http.ResponseWriter, r *http.Request) error {
	var request struct {
		QueueURL          string `json:"QueueUrl"`
		ReceiptHandle     string
		VisibilityTimeout int
	}
	if err := s.decode(w, r, &request, &request.QueueURL); err != nil {
		return err
	}
	pause := time.Duration(request.VisibilityTimeout) * time.Second
	if pause < 0 || pause > maxVisibility {
		return invalid("a visibility timeout of %s; SQS accepts at most %s", pause, maxVisibility)
	}
	err := s.Queue.postpone(request.ReceiptHandle, pause)
	if errors.Is(err, errNoReceipt) {
		return &apiError{"ReceiptHandleIsInvalid", err.Error()}
	}
	return err
}
