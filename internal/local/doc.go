// Package local is the local stack: everything that lipdrop uses of AWS, and a
// fake RunComfy, on loopback and in one folder. It runs the same functions that are
// deployed, behind the protocols of AWS. The functions do not know this package.
//
// Each function may do only what its role in template.yaml allows. Each function has its
// own S3 user, and the bucket's policy gives that user the permissions of the role.
// Package access checks a function's requests to Step Functions, Secrets Manager, SQS and
// EventBridge against the same role. If a request is denied, the stack fails.
//
// Stack connects the parts: the S3 server (gateway), its events (events), the
// queues (queue), Lambda (lambda), Step Functions (states), Secrets Manager
// and RunComfy (runcomfytest). Package awsjson reads the requests to the
// services of AWS except S3, and writes the responses and errors.
//
// Every user of the machine, and every page in a browser on it, can reach a port
// on loopback. So package access refuses requests of pages of other hosts, and requests
// addressed to other hosts. A request to a service of AWS must be signed with the keys of
// the folder: versitygw checks the signatures of requests to S3, and package access checks
// the others. Every other request needs the token of the fake RunComfy, or a secret path.
//
// All state is in one folder, which only its owner can enter (package private). The state survives
// a restart, even after a kill:
//
//	lock             held while a stack uses the folder
//	keys.json        the keys
//	credentials.sh   the owner's credentials for a shell, with --containers
//	env.json         the variables of the functions for sam local, with --containers
//	ports.json       the ports, so that URLs stay valid after a restart
//	certs/           the certificate, which clients must trust (ca.pem), and its key
//	functions/       the programs of the functions
//	s3/              the bucket with its versions, and the S3 users of the functions
//	queue/           events for submit, and dead letters
//	deletion-queue/  deletions for cancel, and dead letters
//	cancel-queue/    other events for cancel, and dead letters
//	executions/      the executions of the state machine
//	runcomfy/        the jobs and outputs of the fake
//	last-event       a time: all bucket events from more than a minute before it are in the queues
//	logs/            the logs of the functions and the servers
//	drop/            where a person puts files to drop
//	sample/          the clip and the voice of lipdrop try
package local
