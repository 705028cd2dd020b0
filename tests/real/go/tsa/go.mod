module keyless.test/tsa

go 1.26

require github.com/sigstore/timestamp-authority/v2 v2.1.3
