# How `sam build` builds the functions: it calls the target build-<logical id> in the project's folder, and takes the files
# in ARTIFACTS_DIR. SAM's own way for Go reads the flags from the environment, where they are easily forgotten:
#
#   CGO_ENABLED=0     a static program: the C library of the building machine need not be Lambda's
#   -trimpath, -buildvcs=false
#                     no paths of the building machine and no commit: the same code is the same bytes, and not deployed again
#   -s -w             without the tables that only a debugger reads: a third smaller, and so a faster cold start
#   lambda.norpc      without the RPC of the go1.x runtime, which Lambda has retired

build = CGO_ENABLED=0 GOOS=linux GOARCH=$(GOARCH) GOWORK=off \
	go build -trimpath -buildvcs=false -ldflags='-s -w' -tags=lambda.norpc -o '$(ARTIFACTS_DIR)/bootstrap'

.PHONY: build-SubmitFunction build-PollFunction build-ArchiveFunction build-CancelFunction

build-SubmitFunction:
	$(build) ./functions/submit

build-PollFunction:
	$(build) ./functions/poll

build-ArchiveFunction:
	$(build) ./functions/archive

build-CancelFunction:
	$(build) ./functions/cancel
