module kmip-operator.invalid/native/probe

go 1.26.0
