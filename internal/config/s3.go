package config

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// NewS3 returns a client of S3 that has the bucket in the path and not in the
// host, in presigned URLs too: S3's certificate does not cover the host of a
// bucket whose name has dots, and an endpoint of one's own has no such hosts.
func NewS3(cfg aws.Config) *s3.Client {
	return s3.NewFromConfig(cfg, func(o *s3.Options) {
		o.UsePathStyle = true
		// It would say so in lines that are no JSON, for each object without one.
		o.DisableLogOutputChecksumValidationSkipped = true
	})
}
