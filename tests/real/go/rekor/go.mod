module keyless.test/rekor

go 1.26

require github.com/sigstore/rekor v1.5.4
