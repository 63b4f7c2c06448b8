// Package local is the local stack: everything that lipdrop uses of AWS, and a
// fake RunComfy, on loopback and in one folder. The functions in it are the
// programs that are deployed, and what they talk to speaks the protocols of
// AWS; nothing in them knows of this package.
//
// Each function may do what its role in template.yaml allows, and no more: it has
// an S3 user of its own, whom a policy of the bucket made of that role's statements
// lets in, and what it asks of Step Functions and Secrets Manager is held to them
// too (permissions). A function that is refused something has failed the stack.
//
// Stack wires the parts, each of which is a package of its own: the S3 server
// (gateway), its events (events), the queue (queue), Lambda (lambda), Step
// Functions (states), Secrets Manager (secrets) and RunComfy (runcomfytest).
//
// The ports are on loopback, where every user of the machine and every page in a
// browser reaches them: package access refuses requests that are not addressed to
// this machine or not signed with the keys of the folder.
//
// All state is in one folder, which only its owner may enter (private), and
// survives a restart, even one by a kill:
//
//	lock           held while a stack uses the folder
//	keys.json      the keys, which nobody else may have
//	ports.json     the ports, so that URLs that were given out stay true
//	certs/         the certificate, and the authority to trust (ca.pem)
//	functions/     the functions' programs
//	s3/            the bucket, with its versions, and the functions' users
//	queue/         events of drops that wait for submit, and dead letters
//	cancel-queue/  events that wait for cancel, and dead letters
//	executions/    the state machine's executions
//	runcomfy/      the fake's jobs and outputs
//	last-event     when the last event of the bucket was kept
//	logs/          a file for each program
package local
