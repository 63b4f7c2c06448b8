// Package problem defines what can be wrong with a drop or a job: the closed list
// of codes with their meanings and remedies, and the wording of problems.
package problem

import (
	"path"
	"slices"
	"strings"
)

// Code says why a name, file or take is in its state. The list of codes is closed, so that
// a program can act on a code. docs/codes.md shows the list.
type Code string

// The codes. The function Codes returns what each means.
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
	FileEncrypted     Code = "encrypted_file"
	NoVideoTrack      Code = "no_video_track"
	NoAudioTrack      Code = "no_audio_track"
	WrongKind         Code = "wrong_kind"
	WrongFormat       Code = "wrong_format"
	TooLong           Code = "too_long"
	TooLarge          Code = "too_large"
	TooSmall          Code = "too_small"
	LengthsDiffer     Code = "lengths_differ"
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
	OverBudget      Code = "over_budget"

	BudgetUnreadable Code = "budget_unreadable"

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
	State   string // the states in which a status has the code, separated by commas
	Meaning string // sentences
	Remedy  string // sentences; NAME stands for the job's name, and FILE for a file that starts the job again
}

// Remedies, and parts of remedies, that several codes share.
const (
	redriveNAME = "`lipdrop redrive NAME` (add `--stack STACK` for a deployed stack)"
	redrive     = "Fix the cause, then run " + redriveNAME + ". The redrive continues where the job failed, and submits nothing again."
	checkFirst  = "Check RunComfy's page to see whether the job is running. If you upload FILE again, the job is submitted again, and may be charged again."
	retried     = "Nothing to do: the job is retried automatically for about a day."
	then        = " The job is then submitted automatically."
	fixJSON     = "Fix job.json (or preset.json), then upload it again."

	fixWhatIsNamed = "Fix what the reason names, then upload only the files that you changed. If you changed no file, or if no job starts, upload FILE again."
)

// Codes returns the whole list.
func Codes() []Info {
	return []Info{
		{WaitingForAudio, "waiting", "A video or image has no audio file with the same name.", "Upload an audio file with the same name into the same folder, or give both files the same name."},
		{WaitingForVisual, "waiting", "An audio file has no video or image with the same name.", "Upload a video or image with the same name into the same folder, or give both files the same name."},
		{WaitingForManifest, "waiting", "A .job folder has files, but no job.json.", "Upload the folder's job.json."},
		{WaitingForFiles, "waiting", "job.json names files that do not exist yet.", "Upload the missing files, or fix their names in job.json."},
		{WaitingForMatch, "waiting", "No audio file matches the wildcard in job.json yet.", "Upload an audio file that matches, or fix the wildcard."},

		{Ambiguous, "rejected", "Two files could have the same role, or two drops have the same name. lipdrop does not guess, because a wrong guess costs money.", "Delete or rename all but one of these files or drops."},
		{UnknownSuffix, "rejected", "The file's suffix is not a suffix of a video, an audio file or an image.", "Convert the file to an accepted format, such as .mp4, .wav or .png, and upload the converted file."},
		{StrayManifest, "rejected", "A job.json is not directly in a folder whose name ends in .job.", "Put job.json and its files into a folder whose name ends in .job, for example cafe.job."},
		{NameTooLong, "rejected", "A key made from the name would be longer than the 1,024 bytes that S3 allows.", "Shorten the name of the file or of its folders."},
		{RelativePath, "rejected", "A part of the file's key is . or .., which programs resolve to another path.", "Upload the file under a name without such a part."},
		{UnprintableName, "rejected", "The file's key has control characters, line separators, noncharacters or characters that change the direction of text.", "Give the file a name without such characters, upload it again, and delete the old file."},
		{Crowded, "rejected", "Finding the files that belong to the name takes more listings of the bucket than one drop may make.", "Use a name with fewer dots, in fewer folders, and not beside thousands of files whose names begin the same. Then upload the files again."},
		{InvalidJSON, "rejected", "A job.json or preset.json is not JSON, or does not have the right form.", fixJSON},
		{InvalidPreset, "rejected", "The preset.json that applies to the pair is wrong.", "Fix the preset, then upload the audio of the pair again."},
		{UnknownMember, "rejected", "A job.json or preset.json has a member that lipdrop or the model does not know.", fixJSON},
		{MissingMember, "rejected", "A required member is not set.", fixJSON},
		{BadValue, "rejected", "A member has a value that the model or lipdrop does not accept.", fixJSON},
		{UnknownModel, "rejected", "The model is not in the catalogue.", fixJSON},
		{ModelMismatch, "rejected", "The model accepts other media than the pair has, or accepts no pair at all.", "In a preset.json, set a model that accepts the pair, or remove the preset. Then upload the audio of the pair again."},
		{MediaInPreset, "rejected", "A preset names media, but the media are the files of the pair.", "Remove the member from the preset, then upload the audio of the pair again."},
		{FileMissing, "rejected", "job.json names a file in another folder, and that file does not exist.", "Upload that file, then job.json again."},
		{FileNotShared, "rejected", "job.json names a file in another folder, and that folder is not shared.", "Upload the file beside job.json or into a folder of the parameter SharedFolders. Name the uploaded file in job.json, and upload job.json again."},
		{FileEmpty, "rejected", "A file is empty or holds no sound.", "Upload a complete file under the same key."},
		{FileMismatch, "rejected", "A file is not what its suffix says, or is a rare variant of its format.", "Rename the file with the right suffix, or convert it. Then upload it."},
		{FileEncrypted, "rejected", "A file is encrypted, for example because it is from a shop or a streaming service.", "Upload a file without copy protection."},
		{FileDamaged, "rejected", "A file cannot be read to its end, or its pictures or sound are not there.", "Export the file again, then upload it again."},
		{NoVideoTrack, "rejected", "A video file has no video track.", "Export the file with its picture, then upload it again."},
		{NoAudioTrack, "rejected", "An audio file has no audio track.", "Export the file with its sound, then upload it again."},
		{WrongKind, "rejected", "A file is of a kind that the model does not accept for this member, for example an audio file instead of a video.", fixJSON},
		{WrongFormat, "rejected", "A file has a format that the model does not accept.", "Convert the file to a format that the reason lists, then upload the converted file."},
		{TooLong, "rejected", "A file is longer than the model accepts.", "Shorten the file, then upload it again."},
		{TooLarge, "rejected", "A file has more bytes than the model accepts.", "Compress the file, then upload it again."},
		{TooSmall, "rejected", "An image has fewer pixels than the model accepts.", "Upload a larger image."},
		{LengthsDiffer, "rejected", "With these lengths and options, a part of a file would be missing in the output. The parameter LengthMismatch is set to reject.", "Set the option that the reason names to another value, or make the files equally long. Then upload FILE again."},
		{RefusedByRunComfy, "rejected", "RunComfy refused this job's input; nothing was charged.", fixWhatIsNamed},

		{Throttled, "held", "RunComfy accepts no more jobs at the moment; nothing was charged.", retried},
		{Unreachable, "held", "RunComfy could not be reached; nothing was sent and nothing was charged.", retried},
		{TokenMissing, "held", "No RunComfy token is set.", "Set the token with `aws secretsmanager put-secret-value`, as the stack's outputs show." + then},
		{TokenUnreadable, "held", "The secret of the RunComfy token could not be read, or the secret does not hold a token.", "Check that the secret holds the token, as plain text or as JSON with the member token, and that the function may read the secret." + then},
		{TokenRefused, "held", "RunComfy refused the token.", "Set a valid token with `aws secretsmanager put-secret-value`, as the stack's outputs show." + then},
		{NoBalance, "held", "The balance of the RunComfy account does not cover the job.", "Top up the account on RunComfy's page." + then},
		{AccountRefused, "held", "RunComfy refused the account.", "Check the account on RunComfy's page, and fix what is wrong with it." + then},
		{MediaForbidden, "held", "S3 refuses to return a file of the job to the functions; nothing was charged.", "Upload the file again with the bucket's own encryption, or let the submit function's role read it." + then},
		{MediaArchived, "held", "A file of the job is in an archive storage class; nothing was charged.", "Restore the file, or upload it again with the storage class STANDARD." + then + " If the restore takes longer than a day, as a bulk restore from DEEP_ARCHIVE may, redrive the dead-letter queue afterwards, or upload FILE again."},
		{TooManyJobs, "held", "One changed file asks for more jobs than MaxJobsPerDrop. Nothing was charged for the jobs above that number.", "Raise the parameter MaxJobsPerDrop." + then + " Or upload the audio of the job again, which starts that job."},

		{OverBudget, "held", "The job would exceed a cap of the day: MaxJobsPerDay, MaxSecondsPerDay or MaxUsdPerDay. Nothing was charged.", "If the reason says that the job continues after midnight UTC, there is nothing to do: the job is retried several times an hour. Otherwise, or to let the job continue earlier, raise the parameter that the reason names."},
		{BudgetUnreadable, "held", "The object below budget/ that counts the jobs of the day cannot be read or written, so whether a cap is reached is not known. Nothing was charged.", "Let the submit function's role read and write the object that the reason names or, if the object is damaged, restore an earlier version of the object." + then + " If you delete the object instead, the count of the day begins at 0."},

		{RecordUnreadable, "held", "The record of this take below jobs/ is not JSON, is too large, is about another take, or has a state that lipdrop does not know, so whether the take was paid for is not known.", "Restore an earlier version of the record that the reason names. If you cannot, upload FILE again: the job is then submitted again, and may be charged again."},

		{FilesGone, "withdrawn", "The files were deleted before a job was submitted.", "Nothing to do. To start the job, upload the files again."},

		{NoLongerNamed, "withdrawn", "A bundle's job.json was changed or deleted before this match of its wildcard was submitted.", "Nothing to do. To start the job, upload a job.json that names the file."},

		{RequestLost, "failed", "RunComfy no longer knows the request.", "Check RunComfy's page. If the job is there, run " + redriveNAME + ": the redrive submits nothing again, and archives the result that is paid for. If the job is not there, upload FILE again. The job is then submitted again, and may be charged again."},
		{QueuedTooLong, "failed", "RunComfy did not report within QueueHours that the job had started.", "If RunComfy's page shows the job as queued, raise the parameter QueueHours. Then run " + redriveNAME + ": the redrive submits nothing again, and archives the result that is paid for."},
		{RanTooLong, "failed", "The job started, but RunComfy did not report its end within MaxHours.", "Wait until RunComfy's page shows that the job has ended, or raise the parameter MaxHours. Then run " + redriveNAME + ": the redrive submits nothing again, and archives the result that is paid for."},
		{JobFailed, "failed", "RunComfy ran the job and reports that it failed.", fixWhatIsNamed},
		{NoOutput, "failed", "RunComfy reports success, but the output is missing or empty.", redrive},
		{OutputRefused, "failed", "The output is at an address that is not allowed.", "If you trust the address, add it to OutputOrigins, then run " + redriveNAME + "."},
		{OutputTooLarge, "failed", "The output is larger than MaxOutputGiB.", "Raise MaxOutputGiB, then run " + redriveNAME + "."},
		{OutputTooMany, "failed", "The job has more outputs than MaxOutputs.", "Raise MaxOutputs, then run " + redriveNAME + "."},
		{OutputTooSlow, "failed", "The output could not be copied within 15 minutes, in two tries.", "Raise MemorySize of ArchiveFunction in template.yaml, which also gives the function a faster processor, or lower MaxOutputGiB to refuse such outputs at once. Then run " + redriveNAME + "."},
		{OutputChanged, "failed", "The output kept changing while it was copied.", redrive},
		{OutputOccupied, "failed", "Another object has the key of the output. Nothing is overwritten.", redrive},
		{ResultUnavailable, "failed", "RunComfy did not return the result for hours.", redrive},
		{OutputUnavailable, "failed", "The output could not be fetched for hours.", redrive},
		{StorageUnavailable, "failed", "An object in S3, such as an output or a record, could not be read or written for hours.", redrive},
		{ExecutionFailed, "failed", "The execution failed with an error that has no code of its own.", redrive},
		{ExecutionTimedOut, "failed", "The execution passed its timeout.", redrive},
		{ExecutionStopped, "failed", "The execution was stopped. The reason also says whether RunComfy cancelled the job, if that is known.", "Check RunComfy's page. If the job is running or has run, it is paid for: run " + redriveNAME + ", which submits nothing again and archives the job's result."},

		{CancelledByDeletion, "cancelled", "A dropped file was deleted, and the job was cancelled at RunComfy before it started.", "Nothing to do. To start the job again, upload the deleted files again."},
		{CancelledByStop, "cancelled", "The execution was stopped, and the job was cancelled at RunComfy before it started.", "Nothing to do. To start the job again, upload FILE again."},
		{JobCancelled, "cancelled, failed", "RunComfy reports that the job was cancelled. A job that was already failed, and was redriven, stays failed.", "To submit the job again, upload FILE again."},
		{TooLateToCancel, "submitted, in_queue, in_progress, archiving", "A dropped file was deleted, but RunComfy could no longer cancel the job.", "Nothing to do: the job is paid for, and its result is archived."},

		{OutcomeUnknown, "unknown", "The job may have been sent, but RunComfy returned no response, or a response that does not say whether RunComfy accepted the job.", checkFirst},
		{SubmitInterrupted, "unknown", "The submit function stopped before it had recorded RunComfy's response.", checkFirst},
	}
}

// State returns the states in which a status has the code, separated by commas, or "" for
// an unknown code.
func (c Code) State() string { return c.info().State }

// In reports whether a status in the given state may have the code.
func (c Code) In(state string) bool { return slices.Contains(strings.Split(c.State(), ", "), state) }

// info returns the code's row of the table, or an empty row for an unknown code.
func (c Code) info() Info {
	for _, info := range Codes() {
		if info.Code == c {
			return info
		}
	}
	return Info{}
}

// Restart holds what RemedyFor and File need to know about a job.
type Restart struct {
	Name   string // of the job
	Bundle bool   // the job has a job.json
	Match  string // of a bundle with a wildcard: the key of the file that the wildcard matched
	NoJob  bool   // the name is the path of a file that cannot belong to a job, such as a preset

	NotCharged bool // RunComfy cancelled the job before it started
}

// File returns the file that must be uploaded to start only this job again. A job.json also starts
// the other matches of its wildcard; a video or image also starts the jobs of other audios, such as
// talk.de.wav.
func (r Restart) File() string {
	switch {
	case r.NoJob:
		return Short(path.Base(r.Name))
	case r.Match != "":
		return Short(path.Base(r.Match))
	case r.Bundle:
		return "its job.json"
	default:
		return "the audio of the job"
	}
}

// NotChargedRemedy is the remedy of every failed job that RunComfy cancelled before the job started,
// whatever the job's code is. A redrive would only find the cancelled job.
const NotChargedRemedy = "Nothing was charged, because RunComfy cancelled the job before it started. To submit the job again, upload FILE again."

// AllMatches is added to texts about one match of a wildcard, because a person might upload job.json
// to start only that match.
const AllMatches = "If you upload job.json, all its matches are submitted again, and RunComfy charges each of them."

// Remedy returns the remedy of the code for a pair with the given name.
func (c Code) Remedy(name string) string { return c.RemedyFor(Restart{Name: name}) }

// RemedyFor returns the remedy of the code for a job.
func (c Code) RemedyFor(job Restart) string {
	text := c.info().Remedy
	if job.NotCharged && c.In("failed") {
		text = NotChargedRemedy
	}
	if job.NoJob {
		text = strings.Replace(text, then, "", 1)
	}
	if job.Match != "" && strings.Contains(text, "upload ") {
		text += " " + AllMatches
	}
	return strings.NewReplacer("NAME", NameWord(job.Name), "FILE", job.File()).Replace(text)
}
