// Package vault names the server whose version go.mod pins.
package vault

import _ "github.com/hashicorp/vault"
