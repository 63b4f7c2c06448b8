package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/lipdrop/lipdrop/internal/bucket"
)

// NoStackError is returned if there is no stack to work on, local or on AWS.
type NoStackError struct{ Reason, Remedy string }

func (e *NoStackError) Error() string { return e.Reason + ". " + e.Remedy }

// UsageError is returned for input, such as a command line, that is wrong or does not say enough.
type UsageError struct{ Reason string }

func (e *UsageError) Error() string { return e.Reason }

// CredentialsError is returned if AWS cannot be called: the credentials or the region are
// missing, their configuration cannot be loaded, or AWS refuses the credentials.
type CredentialsError struct {
	Missing bool // there are no credentials or there is no region
	Err     error
}

func (e *CredentialsError) Error() string { return fmt.Sprintf("%v. %s", e.Err, e.Remedy()) }

// Remedy says what to do.
func (e *CredentialsError) Remedy() string {
	return "Run aws configure or aws sso login, or name another profile or region with --profile or --region."
}

// Unwrap returns the reason.
func (e *CredentialsError) Unwrap() error { return e.Err }

// DeniedError is returned if the caller lacks a permission.
type DeniedError struct {
	Purpose    string // what the permission is for, such as "read the status of talk"
	Permission string // such as s3:GetObject
	Resource   string // an ARN; empty if it is not known
	Err        error
}

func (e *DeniedError) Error() string {
	on := ""
	if e.Resource != "" {
		on = " on " + e.Resource
	}
	return fmt.Sprintf("you are not allowed to %s: your credentials lack the permission %s%s. Ask the owner of the account for this permission, or name other credentials with --profile.", e.Purpose, e.Permission, on)
}

// Unwrap returns AWS's error.
func (e *DeniedError) Unwrap() error { return e.Err }

// ServiceError is returned if AWS or the local stack responded with an error that is about neither
// credentials nor permissions.
type ServiceError struct {
	Purpose, Code, Message string
	Local                  bool // the local stack responded
	Err                    error
}

func (e *ServiceError) Error() string {
	who := "AWS"
	if e.Local {
		who = "the local stack"
	}
	return strings.TrimSuffix(fmt.Sprintf("cannot %s: %s responded %s: %s", e.Purpose, who, e.Code, e.Message), ": ")
}

// Unwrap returns the SDK's error.
func (e *ServiceError) Unwrap() error { return e.Err }

// NoJobError is returned if no job has the given name, or if a pattern selects no job.
type NoJobError struct{ Name, Remedy string }

func (e *NoJobError) Error() string {
	return fmt.Sprintf("there is no job named %s. %s", e.Name, e.Remedy)
}

// refusedCredentials are the error codes for credentials or signatures that AWS refuses.
var refusedCredentials = map[string]bool{
	"ExpiredToken": true, "ExpiredTokenException": true, "RequestExpired": true, "InvalidToken": true, "TokenRefreshRequired": true,
	"InvalidClientTokenId": true, "UnrecognizedClientException": true, "InvalidAccessKeyId": true, "AuthFailure": true,
	"SignatureDoesNotMatch": true, "InvalidSignatureException": true, "IncompleteSignature": true,
}

// deniedCodes are the error codes for a missing permission.
var deniedCodes = map[string]bool{
	"AccessDenied": true, "AccessDeniedException": true, "AccessDeniedFault": true, "UnauthorizedOperation": true, "Forbidden": true, "AllAccessDisabled": true,
}

// operationPermissions has the permissions whose names differ from the names of the operations
// that need them. UploadPartCopy also needs s3:PutObject, but CreateMultipartUpload would have
// failed without that permission.
var operationPermissions = map[string]string{
	"HeadObject": "s3:GetObject", "ListObjectsV2": "s3:ListBucket", "HeadBucket": "s3:ListBucket",
	"CreateMultipartUpload": "s3:PutObject", "UploadPart": "s3:PutObject", "CompleteMultipartUpload": "s3:PutObject",
	"UploadPartCopy": "s3:GetObject", "GetBucketNotificationConfiguration": "s3:GetBucketNotification",
}

// services are the prefixes of permissions, by the SDK's name of the service.
var services = map[string]string{
	"S3": "s3", "SFN": "states", "CloudFormation": "cloudformation", "Secrets Manager": "secretsmanager", "STS": "sts",
	"SQS": "sqs", "EventBridge": "events", "Lambda": "lambda",
}

// Explain returns an error of the SDK, or a *bucket.RefusedError, in words for a person. It
// returns any other error unchanged, including bucket.ErrNotFound, the error of a context that has
// ended, and an error that is explained already. If there is no stack, it returns every error
// unchanged. If there are no credentials, the result is a *CredentialsError. If AWS responded, it is
// a *CredentialsError, a *DeniedError or a *ServiceError. The parameter purpose says what was tried,
// such as "read the status of talk". The parameter key is the key or the prefix that the error is
// about, or "".
func (c *Client) Explain(purpose, key string, err error) error {
	if c.Ledger == nil { // no stack: the error is about files of this machine
		return err
	}
	resource := ""
	if parts := strings.Split(c.Ledger.MachineARN, ":"); len(parts) > 1 && key != "" {
		resource = "arn:" + parts[1] + ":s3:::" + c.Bucket.Name + "/" + key
	}
	return c.explainARN(purpose, resource, err)
}

// explainARN is Explain for the resource with this ARN.
func (c *Client) explainARN(purpose, resource string, err error) error {
	remedy := checkNetwork
	if c.Local() {
		remedy = "The local stack in " + c.Dir + " is no longer running. Start it with: " + startCommand(c.Dir)
	}
	err = explain(purpose, resource, remedy, err)
	if service, ok := errors.AsType[*ServiceError](err); ok {
		service.Local = c.Local()
	}
	return err
}

const checkNetwork = "Check your network and the region"

// Explain is Client.Explain for a request that is not sent to a local stack. Resource is the ARN
// of what the error is about, or "".
func Explain(purpose, resource string, err error) error {
	return explain(purpose, resource, checkNetwork, err)
}

// explain is Explain. The parameter remedy is for a request that could not be sent.
func explain(purpose, resource, remedy string, err error) error {
	_, broken := errors.AsType[*net.OpError](err) // a timeout of the network is a DeadlineExceeded too
	ended := errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) && !broken
	if err == nil || ended || errors.Is(err, bucket.ErrNotFound) || isExplained(err) {
		return err
	}
	if refused, ok := errors.AsType[*bucket.RefusedError](err); ok {
		if refused.HTTPStatus == 403 && (refused.S3Code == "" || deniedCodes[refused.S3Code]) {
			return denied(purpose, "s3:GetObject", resource, refused.S3Message, err)
		}
		return &ServiceError{Purpose: purpose, Code: cmp.Or(refused.S3Code, fmt.Sprintf("HTTP %d", refused.HTTPStatus)), Message: refused.S3Message, Err: err}
	}
	operation, ok := errors.AsType[*smithy.OperationError](err)
	if !ok {
		return err
	}
	if gone, ok := errors.AsType[*types.ExecutionDoesNotExist](err); ok {
		return &ServiceError{Purpose: purpose, Code: gone.ErrorCode(), Message: "there is no execution; a take that is being submitted gets one within seconds", Err: err}
	}
	api, ok := errors.AsType[smithy.APIError](err)
	switch {
	case ok && refusedCredentials[api.ErrorCode()]:
		return &CredentialsError{Err: fmt.Errorf("AWS refuses the credentials: %s: %s", api.ErrorCode(), strings.TrimSuffix(api.ErrorMessage(), "."))}
	case ok && deniedCodes[api.ErrorCode()]:
		if operation.OperationName == "ListObjectsV2" { // this permission is on the bucket, not on its objects
			resource, _, _ = strings.Cut(resource, "/")
		}
		permission := operationPermissions[operation.OperationName]
		if permission == "" {
			permission = services[operation.ServiceID] + ":" + operation.OperationName
		}
		return denied(purpose, permission, resource, api.ErrorMessage(), err)
	case ok:
		return &ServiceError{Purpose: purpose, Code: api.ErrorCode(), Message: api.ErrorMessage(), Err: err}
	}
	// The SDK asks the machine's metadata service last, so an error of that service means
	// that the SDK found no credentials elsewhere.
	if text := err.Error(); strings.Contains(text, "operation error ec2imds") || strings.Contains(text, "static credentials are empty") {
		return &CredentialsError{Missing: true, Err: errors.New("there are no AWS credentials")}
	}
	if unsent, ok := errors.AsType[*smithyhttp.RequestSendError](err); ok {
		return fmt.Errorf("cannot %s: %w. %s", purpose, unsent.Err, remedy)
	}
	return fmt.Errorf("cannot %s: %w", purpose, operation.Err)
}

// unauthorized matches the permission and the resource that AWS names in many of its messages.
var unauthorized = regexp.MustCompile(`not authorized to perform: ([a-z0-9-]+:[A-Za-z]+)(?: on resource: "?(arn:[^"\s]+))?`)

// denied returns a *DeniedError. If AWS's message names another permission, the error has the
// permission and the resource of the message, for example kms:Decrypt and the key if a file is
// encrypted.
func denied(purpose, permission, resource, message string, err error) error {
	if named := unauthorized.FindStringSubmatch(message); named != nil && named[1] != permission {
		permission, resource = named[1], named[2]
	}
	return &DeniedError{Purpose: purpose, Permission: permission, Resource: resource, Err: err}
}

func isExplained(err error) bool {
	_, credentials := errors.AsType[*CredentialsError](err)
	_, denied := errors.AsType[*DeniedError](err)
	_, service := errors.AsType[*ServiceError](err)
	return credentials || denied || service
}
