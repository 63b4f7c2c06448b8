// Package problem holds what can be wrong with a drop or a job: the closed list of
// codes, each with its meaning and its remedy.
package problem

import "strings"

// Code names why a name, file or take is in its state: a closed list, so that
// a program can act on it. docs/codes.md is its table for people.
type Code string

// The codes. Codes says what each means.
const (
	WaitingForAudio    Code = "waiting_for_audio"
	WaitingForVisual   Code = "waiting_for_video_or_image"
	WaitingForManifest Code = "waiting_for_job_json"
	WaitingForFiles    Code = "waiting_for_files"
	WaitingForMatch    Code = "waiting_for_match"

	Ambiguous         Code = "ambiguous"
	UnknownSuffix     Code = "unknown_suffix"
	StrayManifest     Code = "job_json_outside_job_folder"
	NameTooLong       Code = "name_too_long"
	RelativePath      Code = "relative_path"
	UnprintableName   Code = "unprintable_name"
	Crowded           Code = "crowded"
	InvalidJSON       Code = "invalid_json"
	InvalidPreset     Code = "invalid_preset"
	UnknownMember     Code = "unknown_member"
	MissingMember     Code = "missing_member"
	BadValue          Code = "bad_value"
	UnknownModel      Code = "unknown_model"
	ModelMismatch     Code = "model_takes_other_media"
	MediaInPreset     Code = "media_in_preset"
	FileMissing       Code = "file_missing"
	FileNotShared     Code = "file_not_shared"
	FileEmpty         Code = "empty_file"
	FileMismatch      Code = "wrong_content"
	FileDamaged       Code = "damaged_file"
	NoVideoTrack      Code = "no_video_track"
	NoAudioTrack      Code = "no_audio_track"
	WrongKind         Code = "wrong_kind"
	WrongFormat       Code = "wrong_format"
	TooLong           Code = "too_long"
	TooLarge          Code = "too_large"
	TooSmall          Code = "too_small"
	RefusedByRunComfy Code = "refused_by_runcomfy"

	Throttled       Code = "throttled"
	Unreachable     Code = "unreachable"
	TokenMissing    Code = "token_missing"
	TokenUnreadable Code = "token_unreadable"
	TokenRefused    Code = "token_refused"
	NoBalance       Code = "no_balance"
	AccountRefused  Code = "account_refused"
	MediaForbidden  Code = "media_forbidden"
	MediaArchived   Code = "media_archived"
	TooManyJobs     Code = "too_many_jobs"

	RecordUnreadable Code = "record_unreadable"

	FilesGone     Code = "files_gone"
	NoLongerNamed Code = "no_longer_named"

	RequestLost        Code = "request_lost"
	QueuedTooLong      Code = "queued_too_long"
	RanTooLong         Code = "ran_too_long"
	JobFailed          Code = "job_failed"
	NoOutput           Code = "no_output"
	OutputRefused      Code = "output_refused"
	OutputTooLarge     Code = "output_too_large"
	OutputTooMany      Code = "output_too_many"
	OutputTooSlow      Code = "output_too_slow"
	OutputChanged      Code = "output_changed"
	OutputOccupied     Code = "output_occupied"
	ResultUnavailable  Code = "result_unavailable"
	OutputUnavailable  Code = "output_unavailable"
	StorageUnavailable Code = "storage_unavailable"
	ExecutionFailed    Code = "execution_failed"
	ExecutionTimedOut  Code = "execution_timed_out"
	ExecutionStopped   Code = "execution_stopped"

	CancelledByDeletion Code = "cancelled_by_deletion"
	CancelledByStop     Code = "cancelled_by_stop"
	JobCancelled        Code = "job_cancelled"
	TooLateToCancel     Code = "too_late_to_cancel"

	OutcomeUnknown    Code = "outcome_unknown"
	SubmitInterrupted Code = "submit_interrupted"
)

// InterruptedReason is the reason of SubmitInterrupted.
const InterruptedReason = "the submit function stopped before it had recorded RunComfy's response, so the job may have been accepted and charged"

// Info is a row of the table of codes.
type Info struct {
	Code    Code
	State   string // the state it stands with
	Meaning string // one sentence
	Remedy  string // one sentence; NAME stands for the job's name
}

// Ways to act that several codes share.
const (
	again     = "`lipdrop redrive NAME` (with `--stack STACK` where it is deployed)"
	redrive   = "Mend the cause, then run " + again + ": it goes on where it failed and submits nothing again."
	lookFirst = "Look on RunComfy's page whether the job runs there; dropping a file of it again submits it again, and may charge again."
	byItself  = "Nothing to do: it is tried again by itself for about a day."
	dropAgain = "Drop a file that is right under the same key."
	fixJSON   = "Mend job.json (or preset.json) and drop it again."
	deleteOne = "Delete all of them but one."
)

// Codes returns the whole list.
func Codes() []Info {
	return []Info{
		{WaitingForAudio, "waiting", "A video or image is there, but no audio with the same name.", "Drop the audio beside it with the same name, or give both files the same name."},
		{WaitingForVisual, "waiting", "An audio is there, but no video or image with the same name.", "Drop the video or image beside it with the same name, or give both files the same name."},
		{WaitingForManifest, "waiting", "A .job folder has files, but no job.json.", "Drop the folder's job.json."},
		{WaitingForFiles, "waiting", "job.json names files that are not there yet.", "Drop the missing files, or mend the names in job.json."},
		{WaitingForMatch, "waiting", "No file matches the audio's wildcard in job.json yet.", "Drop a file that matches, or mend the wildcard."},

		{Ambiguous, "rejected", "Two files could play the same role, and guessing costs money.", deleteOne},
		{UnknownSuffix, "rejected", "The file's suffix is none of a video, an audio or an image.", "Convert the file to a format that is taken, such as .mp4, .wav or .png, and drop that."},
		{StrayManifest, "rejected", "A job.json counts only directly in a folder whose name ends in .job.", "Put it with its files into such a folder, cafe.job say."},
		{NameTooLong, "rejected", "A key made from the name would pass the 1,024 bytes that S3 allows.", "Shorten the name of the file or of its folders."},
		{RelativePath, "rejected", "A part of the file's key is . or .., which programs take for another place.", "Drop it under a name without such a part."},
		{UnprintableName, "rejected", "The file's key holds control characters, line separators or characters that change the direction of text.", "Rename the file without them, upload it again, and delete the old one."},
		{Crowded, "rejected", "Finding the files that belong to the name takes more listings of the bucket than one drop may make.", "Use a name with fewer dots, in fewer folders, and not beside thousands of files that begin alike; then upload the files again."},
		{InvalidJSON, "rejected", "A job.json or preset.json is not JSON, or not of the right form.", fixJSON},
		{InvalidPreset, "rejected", "The preset.json that counts for the pair is not right.", "Mend the preset, then drop a file of the pair again."},
		{UnknownMember, "rejected", "A member is not one that the file or the model knows.", fixJSON},
		{MissingMember, "rejected", "A member that the model requires is not set.", fixJSON},
		{BadValue, "rejected", "A member has a value that the model does not take.", fixJSON},
		{UnknownModel, "rejected", "The model is not in the catalogue.", fixJSON},
		{ModelMismatch, "rejected", "The model takes other media than the pair has.", "Set a model that takes the pair in a preset.json, or remove the preset; then drop a file of the pair again."},
		{MediaInPreset, "rejected", "A preset names media, which the pairs that it counts for bring along.", "Remove the member from the preset, then drop a file of the pair again."},
		{FileMissing, "rejected", "job.json names a file of another folder that is not there.", "Drop that file, then job.json again."},
		{FileNotShared, "rejected", "job.json names a file of another folder that is not shared.", "Upload the file beside job.json or into a folder of the parameter SharedFolders, name it there, and upload job.json again."},
		{FileEmpty, "rejected", "A file has no bytes.", dropAgain},
		{FileMismatch, "rejected", "A file is not what its suffix says.", "Give the file its right suffix, or convert it."},
		{FileDamaged, "rejected", "A file cannot be read to its end.", "Export the file again and drop it again."},
		{NoVideoTrack, "rejected", "A video file has no video track.", "Export the file with its picture and drop it again."},
		{NoAudioTrack, "rejected", "An audio file has no audio track.", "Export the file with its sound and drop it again."},
		{WrongKind, "rejected", "A file is of another kind than the model takes there.", fixJSON},
		{WrongFormat, "rejected", "A file is of a format that the model does not take.", "Convert the file to a format that the reason lists."},
		{TooLong, "rejected", "A file is longer than the model takes.", "Cut the file and drop it again."},
		{TooLarge, "rejected", "A file has more bytes than the model takes.", "Compress the file and drop it again."},
		{TooSmall, "rejected", "An image has fewer pixels than the model takes.", "Drop a larger image."},
		{RefusedByRunComfy, "rejected", "RunComfy refused this job's input; nothing was charged.", "Mend what the reason names, then drop a file of the job again."},

		{Throttled, "held", "RunComfy takes no more jobs at the moment; nothing was charged.", byItself},
		{Unreachable, "held", "RunComfy could not be reached; nothing was sent and nothing was charged.", byItself},
		{TokenMissing, "held", "No RunComfy token is set.", "Set the token with `aws secretsmanager put-secret-value`, as the stack's outputs show; the job is then submitted by itself."},
		{TokenUnreadable, "held", "The secret that holds the RunComfy token could not be read.", "Look at the secret and at the function's permission to read it; the job is then submitted by itself."},
		{TokenRefused, "held", "RunComfy refused the token.", "Set a valid token with `aws secretsmanager put-secret-value`, as the stack's outputs show; the job is then submitted by itself."},
		{NoBalance, "held", "The RunComfy account has no balance.", "Top up the account on RunComfy's page; the job is then submitted by itself."},
		{AccountRefused, "held", "RunComfy refused the account.", "Look at the account on RunComfy's page; once it is mended the job is submitted by itself."},
		{MediaForbidden, "held", "S3 does not give a file of the job to the functions; nothing was charged.", "Upload the file again with the bucket's own encryption, or let the submit function's role read it; the job is then submitted by itself."},
		{MediaArchived, "held", "A file of the job is in an archive storage class; nothing was charged.", "Restore the file, or upload it again with the storage class STANDARD; the job is then submitted by itself. A restore that takes longer than the day of retries, as from DEEP_ARCHIVE, starts nothing: redrive the dead-letter queue after it, or upload a file of the job again."},
		{TooManyJobs, "held", "One changed file asks for more jobs than MaxJobsPerDrop; nothing was charged for those beyond.", "Raise the parameter MaxJobsPerDrop: the job is then submitted by itself. Or upload the audio of the job again, which starts it."},

		{RecordUnreadable, "held", "The record of this take below jobs/ is not JSON or is too large, so whether it was paid for is not known.", "Restore an earlier version of the record that the reason names. If you delete it instead, the job is submitted again, and may be charged again."},

		{FilesGone, "withdrawn", "The files were deleted before a job was submitted.", "Nothing to do; drop them again to start the job."},

		{NoLongerNamed, "withdrawn", "A bundle's job.json was changed or deleted before this match of its wildcard was submitted.", "Nothing to do; upload a job.json that names the file to start the job."},

		{RequestLost, "failed", "RunComfy no longer knows the request.", "Check RunComfy's page. If the job is there, run " + again + ": it submits nothing again, and archives the result that is paid for. If it is not, drop a file of the job again, which submits it again and may charge again."},
		{QueuedTooLong, "failed", "The job did not start within QueueHours.", "If the reason says that it was cancelled, nothing was charged: drop a file again to submit it anew. Otherwise run " + again + "."},
		{RanTooLong, "failed", "The job started and did not end within MaxHours.", redrive},
		{JobFailed, "failed", "RunComfy ran the job and reports that it failed.", "Mend what the reason names, then drop a file again to submit it anew."},
		{NoOutput, "failed", "RunComfy reports success, but no output.", redrive},
		{OutputRefused, "failed", "The output lies at an address that is not allowed.", "If the address is to be trusted, add it to OutputOrigins, then run " + again + "."},
		{OutputTooLarge, "failed", "The output is larger than MaxOutputGiB.", "Raise MaxOutputGiB, then run " + again + "."},
		{OutputTooMany, "failed", "The job has more outputs than MaxOutputs.", "Raise MaxOutputs, then run " + again + "."},
		{OutputTooSlow, "failed", "The output could not be copied within 15 minutes, in two tries.", "Raise MemorySize of ArchiveFunction in template.yaml, which also gives it a faster processor, or lower MaxOutputGiB to refuse such outputs at once; then run " + again + "."},
		{OutputChanged, "failed", "The output kept changing while it was copied.", redrive},
		{OutputOccupied, "failed", "Another object lies where the output belongs; nothing is overwritten.", redrive},
		{ResultUnavailable, "failed", "RunComfy did not tell the result for hours.", redrive},
		{OutputUnavailable, "failed", "The output could not be fetched for hours.", redrive},
		{StorageUnavailable, "failed", "S3 did not take the output for hours.", redrive},
		{ExecutionFailed, "failed", "The execution failed with an error of its own.", redrive},
		{ExecutionTimedOut, "failed", "The execution passed its timeout.", redrive},
		{ExecutionStopped, "failed", "The execution was stopped, but RunComfy could not cancel the job any more.", "The job is paid for: run " + again + " to have its result archived all the same."},

		{CancelledByDeletion, "cancelled", "A dropped file was deleted, and the job was cancelled at RunComfy before it started.", "Nothing to do; drop the files again to start the job anew."},
		{CancelledByStop, "cancelled", "The execution was stopped, and the job was cancelled at RunComfy before it started.", "Nothing to do; drop a file again to start the job anew."},
		{JobCancelled, "cancelled", "RunComfy reports that the job was cancelled.", "Drop a file again to submit it anew."},
		{TooLateToCancel, "in_progress", "A dropped file was deleted, but RunComfy could not cancel the job any more.", "Nothing to do: the job is paid for, and its result is archived."},

		{OutcomeUnknown, "unknown", "The job was sent, but RunComfy's answer does not tell whether it was taken.", lookFirst},
		{SubmitInterrupted, "unknown", "The submit function stopped between claiming the take and learning RunComfy's answer.", lookFirst},
	}
}

// State returns the state that a code stands with, or "" for an unknown code.
func (c Code) State() string {
	for _, info := range Codes() {
		if info.Code == c {
			return info.State
		}
	}
	return ""
}

// Remedy returns what the table says to do, with the name filled in.
func (c Code) Remedy(name string) string {
	for _, info := range Codes() {
		if info.Code == c {
			return strings.ReplaceAll(info.Remedy, "NAME", quoted(name))
		}
	}
	return ""
}

// quoted returns a name as a person types it into a shell.
func quoted(name string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-", r)
	}
	if strings.IndexFunc(name, func(r rune) bool { return !plain(r) }) < 0 {
		return name
	}
	return "'" + strings.ReplaceAll(name, "'", `'\''`) + "'"
}
