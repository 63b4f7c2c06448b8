package queue

import (
	"crypto/md5" // the checksum of SQS
	"encoding/hex"
	"strings"
	"time"

	"github.com/lipdrop/lipdrop/internal/local/awsjson"
)

const (
	// maxMessage is the size of the longest message, in bytes. AWS has accepted 1 MiB since
	// August 2025. The queue keeps the older limit, so that the functions also work with
	// emulators that have this limit.
	maxMessage = 256 << 10

	maxDelay      = 15 * time.Minute
	maxVisibility = 12 * time.Hour
)

// Operations returns the operations of the SQS API that a function calls. The URL of the
// queue ends in path.
func (q *Queue) Operations(path string) awsjson.Operations {
	a := api{q, path}
	return awsjson.Operations{
		"AmazonSQS.SendMessage":             awsjson.Operation(a.sendMessage),
		"AmazonSQS.ChangeMessageVisibility": awsjson.Operation(a.changeVisibility),
	}
}

type api struct {
	*Queue
	path string
}

func invalid(format string, args ...any) error {
	return awsjson.Errorf("InvalidParameterValue", format, args...)
}

func (a api) checkURL(url string) error {
	if !strings.HasSuffix(url, a.path) {
		return awsjson.Errorf("QueueDoesNotExist", "The specified queue does not exist.")
	}
	return nil
}

// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
func (a api) sendMessage(request struct {
	QueueURL, MessageBody string
	DelaySeconds          *int
}) (any, error) {
	if err := a.checkURL(request.QueueURL); err != nil {
		return nil, err
	}
	delay := a.cfg.Delay
	if request.DelaySeconds != nil {
		delay = time.Duration(*request.DelaySeconds) * time.Second
	}
	if size := len(request.MessageBody); size == 0 || size > maxMessage {
		return nil, invalid("the message has %d bytes; the queue accepts 1 to %d", size, maxMessage)
	}
	if delay < 0 || delay > maxDelay {
		return nil, invalid("a delay of %s; SQS accepts 0 to %s", delay, maxDelay)
	}
	id, err := a.send(request.MessageBody, delay)
	sum := md5.Sum([]byte(request.MessageBody))
	return map[string]string{"MessageId": id, "MD5OfMessageBody": hex.EncodeToString(sum[:])}, err
}

// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ChangeMessageVisibility.html
func (a api) changeVisibility(request struct {
	QueueURL, ReceiptHandle string
	VisibilityTimeout       int
}) (any, error) {
	if err := a.checkURL(request.QueueURL); err != nil {
		return nil, err
	}
	pause := time.Duration(request.VisibilityTimeout) * time.Second
	if pause < 0 || pause > maxVisibility {
		return nil, invalid("a visibility timeout of %s; SQS accepts 0 to %s", pause, maxVisibility)
	}
	return struct{}{}, a.postpone(request.ReceiptHandle, pause)
}
