{{/*
A Deployment of a component without state. As "perdure.pod", and
  "name"        of the Deployment
  "replicas"    null: an autoscaler owns the number
*/}}
{{- define "perdure.deployment" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "perdure.labels" . | nindent 4 }}
spec:
  {{- if not (kindIs "invalid" .replicas) }}
  replicas: {{ int64 .replicas }}
  {{- end }}
  strategy:
    rollingUpdate:
      maxSurge: 1
      maxUnavailable: 0
  selector:
    matchLabels:
      {{- include "perdure.selector" . | nindent 6 }}
  template:
    {{- include "perdure.pod" . | nindent 4 }}
{{- end -}}
