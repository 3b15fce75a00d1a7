{{/*
How KEDA logs in to Kafka, YAML: "metadata" of a trigger, and "secrets" of a TriggerAuthentication. As "perdure.kafkaSecurity".
*/}}
{{- define "perdure.keda" -}}
{{- $security := include "perdure.kafkaSecurity" . | fromYaml -}}
{{- $mechanisms := dict "PLAIN" "plaintext" "SCRAM-SHA-256" "scram_sha256" "SCRAM-SHA-512" "scram_sha512" "OAUTHBEARER" "oauthbearer" -}}
{{- $metadata := dict -}}
{{- $secrets := list -}}
{{- if has $security.protocol (list "SSL" "SASL_SSL") -}}
{{- $_ := set $metadata "tls" "enable" -}}
{{- if and $security.tlsSecret $security.caKey -}}
{{- $secrets = append $secrets (dict "parameter" "ca" "name" $security.caSecret "key" $security.caKey) -}}
{{- end -}}
{{- if and $security.tlsSecret $security.certificateKey -}}
{{- $secrets = append $secrets (dict "parameter" "cert" "name" $security.tlsSecret "key" $security.certificateKey) -}}
{{- $secrets = append $secrets (dict "parameter" "key" "name" $security.tlsSecret "key" $security.privateKeyKey) -}}
{{- end -}}
{{- end -}}
{{- with $security.mechanism -}}
{{- $_ := set $metadata "sasl" (get $mechanisms .) -}}
{{- end -}}
{{- if $security.saslSecret -}}
{{- $secrets = append $secrets (dict "parameter" "username" "name" $security.saslSecret "key" $security.usernameKey) -}}
{{- $secrets = append $secrets (dict "parameter" "password" "name" $security.saslSecret "key" $security.passwordKey) -}}
{{- end -}}
{{- range $name, $value := .values.autoscaling.triggerMetadata -}}
{{- $_ := set $metadata $name (include "perdure.scalar" $value) -}}
{{- end -}}
{{- toYaml (dict "metadata" $metadata "secrets" $secrets) -}}
{{- end -}}
