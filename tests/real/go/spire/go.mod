module keyless.test/spire

go 1.26.2

require github.com/spiffe/spire v1.14.5
